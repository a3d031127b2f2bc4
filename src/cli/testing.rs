//! The fake node of the client, for the tests of the commands.

use super::client::Client;
pub(super) use crate::client::testing::{Fake, answer};

impl Fake {
    pub(super) fn client(&self) -> Client {
        Client::new(vec![self.url()], "client-url")
    }
}
