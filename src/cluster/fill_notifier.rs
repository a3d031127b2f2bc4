//! Notifies the owners of filled names that the names are read here, and hands their answers to the filler.
//!
//! Each owner has a queue of its own, so that an owner that hangs does not delay the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::core::{Incarnation, Name};
use crate::fill::{Filler, OwnerAnswer};
use crate::node::fill_adapter::Interests;
use crate::replication::client::{CallError, PeerClient};

/// Most notifications to one owner at the same time.
const AT_ONCE: usize = 2;

/// Time for an answer of an owner.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Names that wait for one owner; a name that finds no room is sent with its next turn.
const MAX_WAITING: usize = 1024;

/// The names that wait, by owner.
#[derive(Debug, Default)]
struct Queues(BTreeMap<Incarnation, Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Name>,
    under_way: usize,
}

impl Queues {
    /// Adds a name for an owner. Returns it as the error if there is no room.
    fn push(&mut self, owner: Incarnation, name: Name) -> Result<(), Name> {
        let queue = self.0.entry(owner).or_default();
        if queue.waiting.len() >= MAX_WAITING {
            return Err(name);
        }
        queue.waiting.push_back(name);
        Ok(())
    }

    /// The next name that may be sent to an owner.
    fn start(&mut self, owner: Incarnation) -> Option<Name> {
        let queue = self.0.get_mut(&owner).filter(|queue| queue.under_way < AT_ONCE)?;
        let name = queue.waiting.pop_front()?;
        queue.under_way += 1;
        Some(name)
    }

    /// A notification has ended, with or without an answer.
    fn done(&mut self, owner: Incarnation) {
        if let Some(queue) = self.0.get_mut(&owner) {
            queue.under_way = queue.under_way.saturating_sub(1);
            if queue.under_way == 0 && queue.waiting.is_empty() {
                self.0.remove(&owner);
            }
        }
    }
}

/// Notifies owners, at the addresses that `find` returns, until the node ends.
pub(crate) async fn notify_owners(
    client: PeerClient,
    mut interests: Interests,
    filler: Filler,
    find: impl Fn(Incarnation) -> Option<Arc<str>>,
) {
    let mut queues = Queues::default();
    let mut sending: JoinSet<(Incarnation, Name, OwnerAnswer)> = JoinSet::new();
    loop {
        let owner = tokio::select! {
            interest = interests.recv() => {
                let Some((owner, name)) = interest else { return };
                if let Err(name) = queues.push(owner, name) {
                    filler.record_owner_answer(owner.0, &name, OwnerAnswer::None);
                }
                owner
            }
            Some(sent) = sending.join_next() => {
                let Ok((owner, name, answer)) = sent else { continue };
                filler.record_owner_answer(owner.0, &name, answer);
                queues.done(owner);
                owner
            }
        };
        while let Some(name) = queues.start(owner) {
            let (client, server) = (client.clone(), find(owner));
            sending.spawn(async move {
                let answer = notify(&client, server.as_deref(), owner, &name).await;
                (owner, name, answer)
            });
        }
    }
}

async fn notify(client: &PeerClient, server: Option<&str>, owner: Incarnation, name: &Name) -> OwnerAnswer {
    let Some(server) = server else { return OwnerAnswer::None };
    let answer = timeout(ANSWER_TIME, client.notify_owner(server, owner, name)).await;
    match answer.unwrap_or(Err(CallError::TimedOut)) {
        Ok(true) => OwnerAnswer::Filled,
        Ok(false) => OwnerAnswer::NotFilled,
        Err(error) => {
            tracing::debug!(peer = %server, %name, "not notified that the name is read here: {error}");
            if matches!(error, CallError::Refused { .. }) {
                OwnerAnswer::NotFilled
            } else {
                OwnerAnswer::None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(i: usize) -> Name {
        Name::new(format!("n{i}").as_bytes(), 512).unwrap()
    }

    #[test]
    fn an_owner_that_hangs_does_not_delay_the_others() {
        let (hangs, hears) = (Incarnation(1), Incarnation(2));
        let mut queues = Queues::default();
        for i in 0..MAX_WAITING {
            queues.push(hangs, name(i)).unwrap();
        }
        assert_eq!(queues.push(hangs, name(0)), Err(name(0)), "bounded");
        assert_eq!(
            [queues.start(hangs), queues.start(hangs), queues.start(hangs)],
            [Some(name(0)), Some(name(1)), None]
        );
        queues.push(hears, name(7)).unwrap();
        assert_eq!(queues.start(hears), Some(name(7)));
        queues.done(hears);
        assert_eq!(queues.0.len(), 1, "nothing is kept of an owner without names");
        queues.done(hangs);
        assert_eq!(queues.start(hangs), Some(name(2)));
    }
}
