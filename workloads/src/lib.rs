//! Address-space shapes, requests, churn, recorded scenarios and captured shapes.
//! No clock, no threads, no process: everything that touches the world is in `bench`.

pub mod capture;
pub mod churn;
pub mod conform;
pub mod definition;
mod nearest;
pub mod random;
pub mod replay;
pub mod request;
pub mod scenario;
pub mod shape;
