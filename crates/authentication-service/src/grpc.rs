//! The gRPC skin: requests come in, the logic answers on a thread where it may block.

use std::sync::Arc;

use folkmoot_protocol::Refusal;
use folkmoot_protocol::authentication::accounts_server::{Accounts, AccountsServer};
use folkmoot_protocol::authentication::directory_server::{Directory, DirectoryServer};
use folkmoot_protocol::authentication::{
    DrawTokensRequest, DrawTokensResponse, IssuersRequest, IssuersResponse, LookUpRequest,
    LookUpResponse, RegisterRequest, RegisterResponse,
};
use folkmoot_protocol::call::{Answer, Call};
use folkmoot_protocol::rate::{Limiter, Rate, address};
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::AuthenticationService;
use crate::store::Store;

/// The largest request, in bytes.
const MAX_REQUEST: usize = 16 << 10;

/// What a draw counts for: signing a batch is much more work than any other answer.
const DRAW: u32 = 8;

/// Calls that may block at the same time; more wait.
const AT_ONCE: usize = 32;

/// Adds the AS's gRPC services to `routes`. `clock` gives milliseconds since 1970. `rate` counts by
/// [`address`]; those without one share one rate.
#[must_use]
pub fn add_to<S: Store>(
    routes: Routes,
    service: Arc<AuthenticationService<S>>,
    clock: fn() -> u64,
    rate: Rate,
) -> Routes {
    let skin = Skin {
        service,
        clock,
        limiter: Arc::new(Limiter::new(rate)),
        turns: Arc::new(Semaphore::new(AT_ONCE)),
    };
    let accounts = AccountsServer::new(skin.clone()).max_decoding_message_size(MAX_REQUEST);
    let directory = DirectoryServer::new(skin).max_decoding_message_size(MAX_REQUEST);
    #[cfg(feature = "tap")]
    let (accounts, directory) = {
        let tap = folkmoot_protocol::tap::Tap::of("authentication");
        (tap.on(accounts), tap.on(directory))
    };
    routes.add_service(accounts).add_service(directory)
}

struct Skin<S: Store> {
    service: Arc<AuthenticationService<S>>,
    clock: fn() -> u64,
    limiter: Arc<Limiter>,
    turns: Arc<Semaphore>,
}

impl<S: Store> Clone for Skin<S> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            clock: self.clock,
            limiter: self.limiter.clone(),
            turns: self.turns.clone(),
        }
    }
}

impl<S: Store> Skin<S> {
    /// Counts the request, then runs the logic where it may block.
    async fn answer<T>(&self, request: Request<T>, call: fn(T) -> Call) -> Result<Answer, Status> {
        self.answer_for(1, request, call).await
    }

    /// The same, where the request counts for more than one.
    async fn answer_for<T>(
        &self,
        cost: u32,
        request: Request<T>,
        call: fn(T) -> Call,
    ) -> Result<Answer, Status> {
        self.limiter
            .spend(address(&request), cost, (self.clock)())?;
        let call = call(request.into_inner());
        let turns = self.turns.clone();
        // Neither fails but when the program ends.
        let turn = turns.acquire_owned().await.map_err(|_| Refusal::Busy(0))?;
        let (service, clock) = (self.service.clone(), self.clock);
        let answer = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            service.answer(call, clock(), &mut rand::rng())
        });
        Ok(answer.await.map_err(|_| Refusal::Internal)??)
    }
}

#[tonic::async_trait]
impl<S: Store> Accounts for Skin<S> {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        match self.answer(request, Call::Register).await? {
            Answer::Register(response) => Ok(Response::new(response)),
            _ => Err(Refusal::Internal.into()),
        }
    }

    async fn draw_tokens(
        &self,
        request: Request<DrawTokensRequest>,
    ) -> Result<Response<DrawTokensResponse>, Status> {
        match self.answer_for(DRAW, request, Call::DrawTokens).await? {
            Answer::DrawTokens(response) => Ok(Response::new(response)),
            _ => Err(Refusal::Internal.into()),
        }
    }
}

#[tonic::async_trait]
impl<S: Store> Directory for Skin<S> {
    async fn look_up(
        &self,
        request: Request<LookUpRequest>,
    ) -> Result<Response<LookUpResponse>, Status> {
        match self.answer(request, Call::LookUp).await? {
            Answer::LookUp(response) => Ok(Response::new(response)),
            _ => Err(Refusal::Internal.into()),
        }
    }

    async fn issuers(
        &self,
        request: Request<IssuersRequest>,
    ) -> Result<Response<IssuersResponse>, Status> {
        match self.answer(request, Call::Issuers).await? {
            Answer::Issuers(response) => Ok(Response::new(response)),
            _ => Err(Refusal::Internal.into()),
        }
    }
}
