//! Address-space shapes, requests, churn, recorded scenarios and captured shapes.
//! No clock, no threads, no process: everything that touches the world is in `bench`.

pub mod conform;
pub mod replay;
pub mod scenario;
