//! What a program does with the events of a watcher.

use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Event;

/// Why an event could not be handled.
pub type HandlerError = Box<dyn StdError + Send + Sync>;

/// What a handler returns.
pub type HandlerResult = Result<(), HandlerError>;

type Handling = Pin<Box<dyn Future<Output = HandlerResult> + Send>>;

/// A handler of any type.
pub(super) struct BoxedHandler(Box<dyn Fn(Event) -> Handling + Send + Sync>);

impl fmt::Debug for BoxedHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxedHandler").finish_non_exhaustive()
    }
}

impl BoxedHandler {
    pub(super) fn new<F, R>(handler: F) -> Self
    where
        F: Fn(Event) -> R + Send + Sync + 'static,
        R: Future<Output = HandlerResult> + Send + 'static,
    {
        Self(Box::new(move |event| Box::pin(handler(event))))
    }

    pub(super) fn handle(&self, event: Event) -> Handling {
        (self.0)(event)
    }
}

/// How the data of a name is made from an object, and an object from the data.
pub trait Codec: Send + Sync + 'static {
    /// The objects.
    type Object: Send;

    /// The data of an object.
    ///
    /// # Errors
    /// If it has none.
    fn encode(&self, object: &Self::Object) -> Result<Bytes, HandlerError>;

    /// The object of data.
    ///
    /// # Errors
    /// If the data is of none.
    fn decode(&self, data: &Bytes) -> Result<Self::Object, HandlerError>;
}

/// Objects as JSON.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(PhantomData<fn() -> T>);

impl<T> Json<T> {
    /// The codec.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Json<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Codec for Json<T> {
    type Object = T;

    fn encode(&self, object: &T) -> Result<Bytes, HandlerError> {
        Ok(serde_json::to_vec(object)?.into())
    }

    fn decode(&self, data: &Bytes) -> Result<T, HandlerError> {
        Ok(serde_json::from_slice(data)?)
    }
}

/// Data as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Object = Bytes;

    fn encode(&self, object: &Bytes) -> Result<Bytes, HandlerError> {
        Ok(object.clone())
    }

    fn decode(&self, data: &Bytes) -> Result<Bytes, HandlerError> {
        Ok(data.clone())
    }
}

/// A handler of objects: it gets each event with the object of its data; `None` of an event without data, such as a
/// delete. An event whose data is of no object fails, as if the handler had returned the error: then it is tried again
/// or skipped, as the watcher does with others.
///
/// ```no_run
/// # async fn example(manager: vwatch::client::Manager) -> Result<(), vwatch::client::WatcherError> {
/// use serde::{Deserialize, Serialize};
/// use vwatch::client::{Json, RetryStrategy, Scope, WatcherOptions, decoding};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order {
///     amount: u64,
/// }
///
/// let handler = decoding(Json::<Order>::new(), |event, order| async move {
///     if let Some(Order { amount }) = order {
///         println!("{event:?}: {amount}");
///     }
///     Ok(())
/// });
/// let options = WatcherOptions::new().retry(RetryStrategy::Skip).handler(handler).auto_start();
/// manager.create("orders", Scope::prefix("orders/"), options).await?;
/// # Ok(())
/// # }
/// ```
pub fn decoding<C, F, R>(codec: C, handler: F) -> impl Fn(Event) -> Handling + Send + Sync + 'static
where
    C: Codec,
    F: Fn(Event, Option<C::Object>) -> R + Send + Sync + 'static,
    R: Future<Output = HandlerResult> + Send + 'static,
{
    move |event| {
        let data = match &event {
            Event::Added(entry) | Event::Updated(entry) => entry.data.as_ref(),
            _ => None,
        };
        match data.map(|data| codec.decode(data)).transpose() {
            Ok(object) => Box::pin(handler(event, object)) as Handling,
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}
