//! The events of a watch as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::error::Error;
use super::events::{Event, Events};

type Waiting = Pin<Box<dyn Future<Output = (Box<Events>, Result<Event, Error>)> + Send>>;

/// The events of a watch as a [`Stream`], for the adapters of crates such as `futures` and `tokio-stream`: see
/// [`Events::into_stream`]. It does not end. After an error it goes on where the watch was.
pub struct EventStream(State);

enum State {
    Idle(Box<Events>),
    Waiting(Waiting),
    /// Within a poll.
    Moving,
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl Events {
    /// The events as a stream. There is no [`cursor`](Self::cursor) of it, and a
    /// [cursor file](crate::client::Watch::cursor_file) takes an event for handled once the next one is asked for: an
    /// adapter that asks ahead runs before it.
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) {
    /// use std::pin::pin;
    ///
    /// use tokio_stream::StreamExt;
    /// use vwatch::client::{Event, Scope};
    ///
    /// let events = client.watch(Scope::prefix("routes/")).start().into_stream();
    /// let mut gone = pin!(events.filter_map(|event| match event {
    ///     Ok(Event::Deleted { name, .. }) => Some(name),
    ///     _ => None,
    /// }));
    /// while let Some(name) = gone.next().await {
    ///     println!("{name} is gone");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn into_stream(self) -> EventStream {
        EventStream(State::Idle(Box::new(self)))
    }
}

impl Stream for EventStream {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut waiting: Waiting = match std::mem::replace(&mut self.0, State::Moving) {
            State::Idle(mut events) => {
                // most events come with others of the same write
                if let Some(event) = events.ready() {
                    self.0 = State::Idle(events);
                    return Poll::Ready(Some(Ok(event)));
                }
                Box::pin(async move {
                    let told = events.next().await;
                    (events, told)
                })
            }
            State::Waiting(waiting) => waiting,
            // a poll before this one has panicked
            State::Moving => return Poll::Ready(None),
        };
        match waiting.as_mut().poll(cx) {
            Poll::Ready((events, told)) => {
                self.0 = State::Idle(events);
                Poll::Ready(Some(told))
            }
            Poll::Pending => {
                self.0 = State::Waiting(waiting);
                Poll::Pending
            }
        }
    }
}
