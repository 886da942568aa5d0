//! A transport that counts the bytes of the calls and answers that it carries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use folkmoot_client::transport::{Grpc, Parts, ServiceAddress, Transport, TransportError};
use folkmoot_protocol::call::{Answer, Call};

/// Bytes that went to services and came from them: protobuf, without what gRPC and TLS add.
#[derive(Debug, Default)]
pub struct Bytes {
    up: AtomicU64,
    down: AtomicU64,
}

impl Bytes {
    /// Up and down, since the last time that somebody looked.
    pub fn take(&self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (take(&self.up), take(&self.down))
    }
}

/// Carries calls over gRPC. Clones share connections and counts.
#[derive(Clone, Default)]
pub struct Counting {
    grpc: Arc<Grpc>,
    pub bytes: Arc<Bytes>,
}

impl Counting {
    /// With connections of its own, and the counts of another.
    pub fn beside(&self) -> Self {
        Self {
            grpc: Arc::default(),
            bytes: self.bytes.clone(),
        }
    }
}

impl Transport for Counting {
    async fn call(&self, to: &ServiceAddress, call: Call) -> Result<Answer, TransportError> {
        let up = call.encode().len() as u64;
        self.bytes.up.fetch_add(up, Ordering::Relaxed);
        let answer = self.grpc.call(to, call).await?;
        let down = answer.encode().len() as u64;
        self.bytes.down.fetch_add(down, Ordering::Relaxed);
        Ok(answer)
    }

    async fn stream(
        &self,
        to: &ServiceAddress,
        call: Call,
    ) -> Result<Box<dyn Parts>, TransportError> {
        self.grpc.stream(to, call).await
    }
}
