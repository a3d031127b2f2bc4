//! Leases: locks on a name, or on all names below a path, that expire unless they are renewed.

mod events;
mod guard;
mod held;
mod list;
mod loss;
mod renewal;
mod request;
#[cfg(test)]
mod tests;

pub use events::{LeaseEvent, LeaseEvents, LeaseInfo};
pub use guard::LeaseGuard;
pub use list::Lease;
pub use loss::LeaseLoss;
pub use request::LeaseRequest;
pub(crate) use request::random_id;
