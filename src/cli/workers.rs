//! Several requests at a time: clients that share the items of one list, each with one request under way.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::client::Client;
use super::failure::Failure;
use crate::client::url::Url;

/// Requests at a time, unless an option says otherwise: enough to hide the way to the node, and few for a node.
pub(super) const USUAL: usize = 16;

/// Clients of the same nodes.
pub(super) struct Workers {
    clients: Vec<Client>,
    /// The time of each request, with all nodes.
    patience: Duration,
}

impl Workers {
    /// So many clients of the nodes that a flag names. Each request may take `patience`.
    pub(super) fn new(urls: &[Url], flag: &'static str, count: usize, patience: Duration) -> Self {
        let clients = (0..count.max(1)).map(|_| Client::new(urls.to_vec(), flag)).collect();
        Self { clients, patience }
    }

    /// Does `work` for each item, several at a time. Items begin in their order, and may end in another one.
    ///
    /// # Errors
    /// The first failure that `work` returns: no other item begins after it, and those under way are ended.
    pub(super) async fn each<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        work: impl AsyncFn(&mut Client, T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let items = RefCell::new(items);
        let (items, work, patience) = (&items, &work, self.patience);
        let works: Vec<_> = self
            .clients
            .iter_mut()
            .map(|client| async move {
                loop {
                    // a binding, so that the list is not borrowed over an await
                    let next = items.borrow_mut().next();
                    let Some(item) = next else { return Ok(()) };
                    client.limit(patience);
                    work(client, item).await?;
                }
            })
            .collect();
        all(works).await
    }
}

/// Runs all of them on this task until each has ended, or one has failed. They are few: each wake asks all of them.
async fn all<F: Future<Output = Result<(), Failure>>>(works: Vec<F>) -> Result<(), Failure> {
    let mut works: Vec<_> = works.into_iter().map(Box::pin).collect();
    poll_fn(|context| {
        let mut failure = None;
        works.retain_mut(|work| match work.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(done) => {
                if let Err(why) = done {
                    failure.get_or_insert(why);
                }
                false
            }
        });
        match failure {
            Some(failure) => Poll::Ready(Err(failure)),
            None if works.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::client::Request;
    use super::super::testing::{Fake, answer};
    use super::*;

    fn workers(fake: &Fake, count: usize) -> Workers {
        Workers::new(&[fake.url()], "server-url", count, Duration::from_secs(10))
    }

    #[tokio::test]
    async fn each_item_is_done_once() {
        let fake = Fake::start((0..9).map(|_| answer("200 OK", &[], "")).collect());
        let done = RefCell::new(Vec::new());
        let work = async |client: &mut Client, item: u32| {
            client.send(&Request::get(format!("/{item}"))).await?;
            done.borrow_mut().push(item);
            Ok(())
        };
        workers(&fake, 1).each(0..3, &work).await.unwrap();
        assert_eq!(*done.borrow(), [0, 1, 2]);
        let (under_way, most) = (Cell::new(0), Cell::new(0));
        let work = async |_: &mut Client, _: u32| {
            under_way.set(under_way.get() + 1);
            most.set(under_way.get().max(most.get()));
            tokio::task::yield_now().await;
            under_way.set(under_way.get() - 1);
            Ok(())
        };
        workers(&fake, 4).each(0..50, &work).await.unwrap();
        assert_eq!((under_way.get(), most.get()), (0, 4));
    }

    #[tokio::test]
    async fn a_failure_ends_all() {
        let begun = Cell::new(0);
        let fake = Fake::start(Vec::new());
        let work = async |_: &mut Client, item: u32| {
            begun.set(begun.get() + 1);
            tokio::task::yield_now().await;
            if item == 2 { Err(Failure::Failed("two".to_owned())) } else { Ok(()) }
        };
        let outcome = workers(&fake, 2).each(0..100, &work).await;
        assert_eq!(outcome, Err(Failure::Failed("two".to_owned())));
        assert!(begun.get() < 6, "{}", begun.get());
    }
}
