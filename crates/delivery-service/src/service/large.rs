//! What large groups need: appends that go up in chunks, and the pages of their trees.

use std::sync::TryLockError;

use folkmoot_protocol::Refusal;
use folkmoot_protocol::delivery::{
    AppendStagedRequest, PagesRequest, PagesResponse, PutPagesRequest, PutPagesResponse, Receipt,
    StageRequest, StageResponse, UploadRequest, UploadResponse,
};
use folkmoot_protocol::token::price::Priced;

use super::DeliveryService;
use crate::decision::Request;
use crate::fields::ensure;
use crate::logs::pages::{PutPages, Wanted};
use crate::logs::parse::Parsed;
use crate::logs::stage::{Found, OpenStage, Staged, Upload};
use crate::store::Store;

/// Milliseconds after which to try again while another staged append is made.
const TURN: u64 = 500;

impl<S: Store> DeliveryService<S> {
    pub(super) fn stage(&self, request: StageRequest, now: u64) -> Result<StageResponse, Refusal> {
        let stage = OpenStage::read(request)?;
        let key = self.look(|records| stage.load_key(records))?;
        stage.check(key, self.public_key)?;
        self.commit(stage, now)
    }

    pub(super) fn upload(
        &self,
        request: UploadRequest,
        now: u64,
    ) -> Result<UploadResponse, Refusal> {
        let upload = Upload::read(request)?;
        // A member has opened the stage, so that nobody else uses up what the group may write.
        let (stage, share) = self.look(|records| {
            let stage = upload.load(records)?;
            let share = upload.share(stage.as_ref(), records)?;
            Ok((stage, share))
        })?;
        if upload.is_awaited(stage.as_ref(), now)? {
            let share = share.ok_or(Refusal::NotFound)?;
            let bytes = upload.length() as u64;
            self.asked.bytes(upload.log(), share, bytes, now)?;
        }
        self.commit(upload, now)
    }

    /// Makes an append that was staged: one at a time, since each may take much memory.
    pub(super) fn append_staged(
        &self,
        mut request: AppendStagedRequest,
        now: u64,
    ) -> Result<Receipt, Refusal> {
        let (price, payment) = (request.price(), request.payment.take());
        let staged = Staged::read(&request)?;
        let _turn = match self.staged.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Refusal::Busy(TURN)),
        };
        let gathered = self.look(|records| staged.gather(records, now))?;
        let gathered = match gathered.ok_or(Refusal::NotFound)? {
            Found::Whole(gathered) => gathered,
            Found::Named(head) => return Ok(self.receipt(head)),
        };
        let (request, stage) = gathered.open()?;
        let parsed = Parsed::read(request)?.staged(stage, price, payment);
        ensure(parsed.log() == staged.log, "log")?;
        let mut answers = self.append_parsed(vec![Ok(parsed)], now);
        answers.pop().ok_or(Refusal::Internal)?
    }

    pub(super) fn pages(&self, request: &PagesRequest, now: u64) -> Result<PagesResponse, Refusal> {
        let wanted = Wanted::read(request)?;
        self.look(|records| wanted.find(records, self.retention, now))
    }

    pub(super) fn put_pages(
        &self,
        request: PutPagesRequest,
        now: u64,
    ) -> Result<PutPagesResponse, Refusal> {
        let pages = PutPages::read(request, self.retention)?;
        let (key, share) =
            self.look(|records| Ok((pages.load_key(records)?, pages.share(records)?)))?;
        pages.check(key, self.public_key)?;
        let bytes = pages.length() as u64;
        self.asked.bytes(pages.log(), share, bytes, now)?;
        self.commit(pages, now)
    }
}
