//! Counts the bytes of requests while the connection takes them, and cuts bodies into pieces, so that there is something to count.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::remote::transfer::Transfers;

/// Bytes that are handed on at once.
const PIECE: usize = 256 * 1024;

/// Counts for somebody.
#[derive(Clone)]
pub struct Counting(pub Transfers);

/// What one try of a request sent.
#[derive(Clone, Debug, Default)]
struct Sent(Arc<AtomicU64>);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

impl std::fmt::Debug for Counting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Counting")
    }
}

impl Intercept for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Each try is of a request as it was before this.
        if let Some(Sent(before)) = bag.load::<Sent>() {
            self.0.take_back(before.load(Ordering::Relaxed));
        }
        let sent = Sent::default();
        bag.interceptor_state().store_put(sent.clone());
        let body = context.request_mut().body_mut();
        let inner = Box::pin(std::mem::replace(body, SdkBody::taken()));
        *body = SdkBody::from_body_1_x(Counted { inner, rest: Bytes::new(), sent, transfers: self.0.clone() });
        Ok(())
    }
}

/// A body that is counted.
struct Counted {
    inner: Pin<Box<SdkBody>>,
    rest: Bytes,
    sent: Sent,
    transfers: Transfers,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            match self.inner.as_mut().poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return other,
            }
        }
        let len = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(len);
        self.sent.0.fetch_add(len as u64, Ordering::Relaxed);
        self.transfers.add(len as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (Body::size_hint(&*self.inner), self.rest.len() as u64);
        match hint.exact() {
            Some(exact) => SizeHint::with_exact(exact + rest),
            None => hint,
        }
    }
}
