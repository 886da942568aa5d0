//! Commands about links, and about those who knock.

use crate::error::CliError;
use crate::home;
use crate::options::HomeOptions;
use crate::output::Printer;
use crate::report::{Declined, Knock, Knocked, Knocks, Link};

use super::conversation::show;

pub async fn invite(
    home: &HomeOptions,
    group: &str,
    ask: bool,
    stop: bool,
    printer: &Printer,
) -> Result<(), CliError> {
    let mut client = home::open(home)?;
    if stop {
        client.take_link_back(group).await?;
    }
    let link = if stop {
        None
    } else {
        Some(client.invite_by_link(group, ask).await?)
    };
    let answer = Link {
        group: client.conversation(group)?.title,
        asks: link.as_ref().is_some_and(|link| link.asks),
        link: link.map(|link| link.link.to_string()),
    };
    printer.print(&answer).map_err(CliError::Output)
}

pub async fn knock(
    home: &HomeOptions,
    link: &str,
    only_device: bool,
    printer: &Printer,
) -> Result<(), CliError> {
    home::open(home)?.knock(link, only_device).await?;
    printer.print(&Knocked {}).map_err(CliError::Output)
}

pub fn knocks(home: &HomeOptions, group: &str, printer: &Printer) -> Result<(), CliError> {
    let mut client = home::open(home)?;
    let knocks = client.knocks(group)?.into_iter().map(|knock| Knock {
        user: knock.user.to_string(),
        device: hex::encode(knock.device.0),
        since: knock.since,
        answering: knock.answering,
    });
    let answer = Knocks {
        group: client.conversation(group)?.title,
        knocks: knocks.collect(),
    };
    printer.print(&answer).map_err(CliError::Output)
}

pub async fn accept(
    home: &HomeOptions,
    group: &str,
    user: &str,
    printer: &Printer,
) -> Result<(), CliError> {
    let mut client = home::open(home)?;
    client.accept(group, user).await?;
    show(&mut client, group, printer)
}

pub async fn decline(
    home: &HomeOptions,
    group: &str,
    user: &str,
    printer: &Printer,
) -> Result<(), CliError> {
    home::open(home)?.decline(group, user).await?;
    let user = user.to_owned();
    printer.print(&Declined { user }).map_err(CliError::Output)
}
