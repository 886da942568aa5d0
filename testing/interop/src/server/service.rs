//! The gRPC skin of a [`Client`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::client::Client;
use crate::proto;
use crate::proto::mls_client_server::{MlsClient, MlsClientServer};

/// Answers calls on a socket, HTTP/2 in clear, until the future is dropped.
///
/// # Errors
/// [`tonic::transport::Error`]: the socket fails.
pub async fn serve(client: Client, listener: TcpListener) -> Result<(), tonic::transport::Error> {
    let service = Service(Arc::new(Mutex::new(client)));
    tonic::transport::Server::builder()
        .add_service(MlsClientServer::new(service))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
}

struct Service(Arc<Mutex<Client>>);

impl Service {
    /// Runs one call away from the threads that carry the connections. Calls wait for each other,
    /// since most are on one value; a runner makes one at a time anyway.
    async fn run<A: Send + 'static, E: Into<Status> + Send + 'static>(
        &self,
        call: impl FnOnce(&mut Client) -> Result<A, E> + Send + 'static,
    ) -> Result<Response<A>, Status> {
        let client = self.0.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
            call(client.at(now()))
        });
        match answer.await {
            Ok(answer) => answer.map(Response::new).map_err(Into::into),
            Err(_) => Err(Status::internal("the call did not end")),
        }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Every call is a method of the same name of [`Client`].
macro_rules! calls {
    ($($call:ident: $request:ident => $response:ident;)*) => {
        #[tonic::async_trait]
        impl MlsClient for Service {
            async fn name(
                &self,
                _request: Request<proto::NameRequest>,
            ) -> Result<Response<proto::NameResponse>, Status> {
                self.run(|client| Ok::<_, Status>(client.name())).await
            }

            async fn supported_ciphersuites(
                &self,
                _request: Request<proto::SupportedCiphersuitesRequest>,
            ) -> Result<Response<proto::SupportedCiphersuitesResponse>, Status> {
                self.run(|client| Ok::<_, Status>(client.supported_ciphersuites())).await
            }

            $(
                async fn $call(
                    &self,
                    request: Request<proto::$request>,
                ) -> Result<Response<proto::$response>, Status> {
                    self.run(move |client| client.$call(request.get_ref())).await
                }
            )*
        }
    };
}

calls! {
    create_group: CreateGroupRequest => CreateGroupResponse;
    create_key_package: CreateKeyPackageRequest => CreateKeyPackageResponse;
    join_group: JoinGroupRequest => JoinGroupResponse;
    external_join: ExternalJoinRequest => ExternalJoinResponse;
    group_info: GroupInfoRequest => GroupInfoResponse;
    state_auth: StateAuthRequest => StateAuthResponse;
    export: ExportRequest => ExportResponse;
    protect: ProtectRequest => ProtectResponse;
    unprotect: UnprotectRequest => UnprotectResponse;
    store_psk: StorePskRequest => StorePskResponse;
    add_proposal: AddProposalRequest => ProposalResponse;
    update_proposal: UpdateProposalRequest => ProposalResponse;
    remove_proposal: RemoveProposalRequest => ProposalResponse;
    external_psk_proposal: ExternalPskProposalRequest => ProposalResponse;
    resumption_psk_proposal: ResumptionPskProposalRequest => ProposalResponse;
    group_context_extensions_proposal:
        GroupContextExtensionsProposalRequest => ProposalResponse;
    commit: CommitRequest => CommitResponse;
    handle_commit: HandleCommitRequest => HandleCommitResponse;
    handle_pending_commit: HandlePendingCommitRequest => HandleCommitResponse;
    re_init_proposal: ReInitProposalRequest => ProposalResponse;
    re_init_commit: CommitRequest => CommitResponse;
    handle_pending_re_init_commit: HandlePendingCommitRequest => HandleReInitCommitResponse;
    handle_re_init_commit: HandleCommitRequest => HandleReInitCommitResponse;
    re_init_welcome: ReInitWelcomeRequest => CreateSubgroupResponse;
    handle_re_init_welcome: HandleReInitWelcomeRequest => JoinGroupResponse;
    create_branch: CreateBranchRequest => CreateSubgroupResponse;
    handle_branch: HandleBranchRequest => HandleBranchResponse;
    new_member_add_proposal: NewMemberAddProposalRequest => NewMemberAddProposalResponse;
    create_external_signer: CreateExternalSignerRequest => CreateExternalSignerResponse;
    add_external_signer: AddExternalSignerRequest => ProposalResponse;
    external_signer_proposal: ExternalSignerProposalRequest => ProposalResponse;
    free: FreeRequest => FreeResponse;
}
