//! One suite for every backend: whatever its format, its answer must mean what the tables say.

/// Stamps the suite out for one backend type.
macro_rules! suite {
    ($id:ident, $backend:ty) => {
        #[test]
        fn id_is_that_of_the_registry_in_lower_case_with_underscores() {
            let id = <$backend as $crate::backend::Backend>::INFO.id;
            assert_eq!(id, stringify!($id));
            assert!(id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{id}");
        }
    };
}
pub(crate) use suite;
