//! One log, written and read back by whoever holds its fence key. What it writes has the form of
//! MLS messages, which is all that the service can see of any.

use folkmoot_client::transport::{ServiceAddress, Transport, TransportError};
use folkmoot_mls::codec::{Bytes, Decode, Encode};
use folkmoot_mls::tls_struct;
use folkmoot_protocol::VERSION;
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::delivery::{
    AppendRequest, LogRead, NonceRequest, OpenRequest, ReadRequest, ReadResponse,
    read_response::End,
};
use folkmoot_protocol::ids::{ChainHash, EntryId, LogId};
use folkmoot_protocol::keys::SigningKey;
use folkmoot_protocol::log::{Append, Open, SignedHead};
use folkmoot_protocol::proof::{FenceProof, Method};
use rand_core::CryptoRng;

/// What went wrong, and whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Transport(#[from] TransportError),
    #[error("the service answered something else than what was asked")]
    OtherAnswer,
    #[error("a head's signature does not verify: the service is at fault")]
    Signature,
    #[error("an entry that was acknowledged did not come back: the service is at fault")]
    Lost,
    #[error("the system has no randomness to give")]
    Randomness,
    #[error("a writer panicked")]
    Panicked,
    #[error("nothing was appended in the time given")]
    Nothing,
}

tls_struct! {
    struct PrivateMessage {
        version: u16,
        wire_format: u16,
        group_id: Bytes,
        epoch: u64,
        content_type: u8,
        authenticated_data: Bytes,
        encrypted_sender_data: Bytes,
        ciphertext: Bytes,
    }
}

const APPLICATION: u8 = 1;

/// Writes one log.
pub struct Writer<T> {
    transport: T,
    to: ServiceAddress,
    fence: SigningKey,
    log: LogId,
    branch: EntryId,
    written: u64,
    acknowledged: Vec<(u64, ChainHash)>,
}

impl<T: Transport> Writer<T> {
    /// Opens a fresh log.
    pub async fn open(
        transport: T,
        to: ServiceAddress,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Fault> {
        let fence = SigningKey::generate(rng);
        let mut log = LogId([0; 32]);
        rng.fill_bytes(&mut log.0);
        let open = Open {
            version: VERSION,
            log,
            fence_key: fence.public(),
        };
        let branch = open.id();
        let mut writer = Self {
            transport,
            to,
            fence,
            log,
            branch,
            written: 0,
            acknowledged: Vec::new(),
        };
        let proof = writer.proof(Method::Open, branch.as_ref());
        let request = OpenRequest {
            open: open.to_bytes(),
            fence_signature: proof.to_vec(),
            payment: None,
        };
        let Answer::Open(receipt) = writer.call(Call::Open(request)).await? else {
            return Err(Fault::OtherAnswer);
        };
        writer.keep(&receipt)?;
        Ok(writer)
    }

    /// Appends a message of `ciphertext` and waits for its receipt.
    pub async fn append(&mut self, ciphertext: &[u8]) -> Result<(), Fault> {
        self.written += 1;
        let message = PrivateMessage {
            version: 1,
            wire_format: 2,
            group_id: self.log.0.into(),
            epoch: 0,
            content_type: APPLICATION,
            authenticated_data: Bytes::default(),
            encrypted_sender_data: self.written.to_be_bytes().into(),
            ciphertext: ciphertext.into(),
        };
        let append = Append {
            version: VERSION,
            log: self.log,
            branch: self.branch,
            parent: self.branch,
            epoch: 0,
            content_type: APPLICATION,
            commit: None,
            message: message.to_bytes().into(),
        };
        let request = AppendRequest {
            append: append.to_bytes(),
            fence_signature: self.proof(Method::Append, append.id().as_ref()).to_vec(),
            ..AppendRequest::default()
        };
        let Answer::Append(receipt) = self.call(Call::Append(request)).await? else {
            return Err(Fault::OtherAnswer);
        };
        self.keep(&receipt)
    }

    /// Reads the whole log after its opening and compares its chain with every receipt.
    pub async fn read_back(&self) -> Result<(), Fault> {
        let mut receipts = self.acknowledged.iter();
        let &(mut after, mut chain) = receipts.next().ok_or(Fault::Lost)?;
        loop {
            let before = after;
            for batch in self.read(after).await? {
                for entry in &batch.entries {
                    let append =
                        Append::from_bytes(&entry.content).map_err(|_| Fault::OtherAnswer)?;
                    chain = chain.next(self.log, entry.sequence, entry.time, append.id());
                    if receipts.next() != Some(&(entry.sequence, chain)) {
                        return Err(Fault::Lost);
                    }
                    after = entry.sequence;
                }
                if batch.end() == End::Head {
                    return if receipts.next().is_none() {
                        Ok(())
                    } else {
                        Err(Fault::Lost)
                    };
                }
            }
            if after == before {
                return Err(Fault::Lost);
            }
        }
    }

    async fn read(&self, after: u64) -> Result<Vec<ReadResponse>, Fault> {
        let Answer::LogNonce(nonce) = self.call(Call::LogNonce(NonceRequest {})).await? else {
            return Err(Fault::OtherAnswer);
        };
        let read = LogRead {
            log: self.log.into(),
            branch: self.branch.into(),
            epoch: 0,
            proof: self.proof(Method::Read, &nonce.nonce).to_vec(),
            nonce: nonce.nonce,
            after,
        };
        let request = ReadRequest {
            logs: vec![read],
            follow: false,
        };
        match self.call(Call::Read(request)).await? {
            Answer::Read(responses) => Ok(responses.batches),
            _ => Err(Fault::OtherAnswer),
        }
    }

    async fn call(&self, call: Call) -> Result<Answer, TransportError> {
        self.transport.call(&self.to, call).await
    }

    fn keep(&mut self, receipt: &folkmoot_protocol::delivery::Receipt) -> Result<(), Fault> {
        let head = SignedHead::read(receipt, &self.to.key)
            .map_err(|_| Fault::Signature)?
            .head;
        self.acknowledged.push((head.sequence, head.chain));
        Ok(())
    }

    fn proof(&self, method: Method, subject: &[u8]) -> [u8; 64] {
        FenceProof {
            version: VERSION,
            delivery_service: self.to.key,
            log: self.log,
            branch: self.branch,
            epoch: 0,
            method,
            subject: subject.into(),
        }
        .sign(&self.fence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use folkmoot_delivery_service::{DeliveryService, MemoryStore};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A service in the same process, which can be made to lie about what it keeps.
    struct InProcess {
        service: DeliveryService<MemoryStore>,
        drops_last: AtomicBool,
    }

    impl Transport for &InProcess {
        async fn call(&self, _: &ServiceAddress, call: Call) -> Result<Answer, TransportError> {
            let mut rng = ChaCha20Rng::from_seed([2; 32]);
            let answer = self.service.answer(call, 1000, &mut rng);
            let mut answer = answer.map_err(TransportError::Refused)?;
            if let (Answer::Read(read), true) =
                (&mut answer, self.drops_last.load(Ordering::SeqCst))
            {
                read.batches
                    .iter_mut()
                    .for_each(|batch| drop(batch.entries.pop()));
            }
            Ok(answer)
        }
    }

    #[tokio::test]
    async fn what_was_written_is_read_back_and_a_loss_is_found() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let key = SigningKey::generate(&mut rng);
        let to = ServiceAddress {
            url: "https://here".into(),
            key: key.public(),
            pin: None,
        };
        let service = DeliveryService::new(MemoryStore::default(), key, &mut rng);
        let server = InProcess {
            service,
            drops_last: AtomicBool::new(false),
        };
        let mut writer = Writer::open(&server, to, &mut rng).await.unwrap();
        for _ in 0..20 {
            writer.append(b"load").await.unwrap();
        }
        writer.read_back().await.unwrap();
        server.drops_last.store(true, Ordering::SeqCst);
        assert!(matches!(writer.read_back().await, Err(Fault::Lost)));
    }
}
