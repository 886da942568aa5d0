//! Commands about accounts and groups.

use folkmoot_client::transport::{Grpc, ServerUrl};
use folkmoot_client::{Conversation, Standing, What};

use crate::error::CliError;
use crate::home::{self, LocalClient};
use crate::options::HomeOptions;
use crate::output::Printer;
use crate::report::{GroupLine, GroupState, Groups, Left, LeftOut, Member, Registered, State};

pub async fn register(
    home: &HomeOptions,
    name: &str,
    server: &str,
    printer: &Printer,
) -> Result<(), CliError> {
    let server: ServerUrl = server.parse()?;
    // Whoever mistypes an address or a name is told so before a home is made for it.
    let well_known = Grpc::new().well_known(&server).await?;
    name.parse::<folkmoot_credential::Name>()
        .map_err(folkmoot_client::Error::from)?;
    let account = home::open_or_create(home)?
        .register(name, &server, &well_known)
        .await?;
    let registered = Registered {
        user: account.user.to_string(),
        server: server.url,
    };
    printer.print(&registered).map_err(CliError::Output)
}

pub async fn new(
    home: &HomeOptions,
    group: &str,
    users: &[String],
    printer: &Printer,
) -> Result<(), CliError> {
    let mut client = home::open(home)?.on_progress(printer.progress());
    client.new_conversation(group, users).await?;
    let lines = client.history(group, None)?;
    let left_out = lines.into_iter().filter_map(|line| match line.what {
        What::LeftOut(who) => Some(left_out(&who)),
        _ => None,
    });
    show_with(&mut client, group, left_out.collect(), printer)
}

pub async fn add(
    home: &HomeOptions,
    group: &str,
    users: &[String],
    printer: &Printer,
) -> Result<(), CliError> {
    let mut client = home::open(home)?.on_progress(printer.progress());
    let who = client.add(group, users).await?;
    let who = who.iter().map(left_out).collect();
    show_with(&mut client, group, who, printer)
}

pub async fn remove(
    home: &HomeOptions,
    group: &str,
    users: &[String],
    printer: &Printer,
) -> Result<(), CliError> {
    let mut client = home::open(home)?;
    client.remove(group, users).await?;
    show(&mut client, group, printer)
}

pub async fn leave(home: &HomeOptions, group: &str, printer: &Printer) -> Result<(), CliError> {
    let conversation = home::open(home)?.leave(group).await?;
    let left = Left {
        state: state(&conversation),
        group: conversation.title,
    };
    printer.print(&left).map_err(CliError::Output)
}

pub async fn update(home: &HomeOptions, group: &str, printer: &Printer) -> Result<(), CliError> {
    let mut client = home::open(home)?;
    client.update(group).await?;
    show(&mut client, group, printer)
}

pub fn members(home: &HomeOptions, group: &str, printer: &Printer) -> Result<(), CliError> {
    show(&mut home::open(home)?, group, printer)
}

pub fn groups(home: &HomeOptions, printer: &Printer) -> Result<(), CliError> {
    let conversations = home::open(home)?.conversations()?;
    let groups = conversations.into_iter().map(|conversation| GroupLine {
        state: state(&conversation),
        group: conversation.title,
        log: hex::encode(conversation.log),
        epoch: conversation.epoch,
        waiting: conversation.waiting,
    });
    printer
        .print(&Groups {
            groups: groups.collect(),
        })
        .map_err(CliError::Output)
}

fn state(conversation: &Conversation) -> State {
    match conversation.standing {
        Standing::Opening => State::Opening,
        Standing::Member if conversation.leaving => State::Leaving,
        Standing::Member => State::Member,
        Standing::Removed => State::Removed,
        Standing::Left => State::Left,
        Standing::Behind => State::Behind,
        _ => State::Stopped,
    }
}

/// Somebody who could not be added.
pub(super) fn left_out(who: &folkmoot_client::LeftOut) -> LeftOut {
    LeftOut {
        user: who.user.to_string(),
        device: who.device.as_ref().map(|device| hex::encode(device.0)),
        reason: who.reason.to_string(),
    }
}

pub(super) fn show(
    client: &mut LocalClient,
    group: &str,
    printer: &Printer,
) -> Result<(), CliError> {
    show_with(client, group, Vec::new(), printer)
}

fn show_with(
    client: &mut LocalClient,
    group: &str,
    left_out: Vec<LeftOut>,
    printer: &Printer,
) -> Result<(), CliError> {
    let conversation = client.conversation(group)?;
    let members = client.members(group)?;
    let list = members.members.into_iter().map(|member| Member {
        user: member.user.to_string(),
        device: hex::encode(member.device.0),
        you: member.own,
    });
    let state = GroupState {
        group: conversation.title,
        log: hex::encode(conversation.log),
        epoch: members.epoch,
        epoch_authenticator: hex::encode(members.epoch_authenticator),
        members: list.collect(),
        left_out,
    };
    printer.print(&state).map_err(CliError::Output)
}
