//! One suite for every backend: whatever its format, its answer must mean what the tables say.

/// Stamps the suite out for one backend type.
macro_rules! suite {
    ($backend:ty) => {
        #[test]
        fn id_is_lower_case_with_underscores() {
            let id = <$backend as $crate::backend::Backend>::INFO.id;
            assert!(id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{id}");
        }
    };
}
pub(crate) use suite;
