//! What `slipring deploy` and `slipring fix` do: builds and checks a version, compares it with the one that runs, puts it
//! where a relay finds it, and follows what the relay makes of it.

mod ask;
mod compared;
mod follow;
mod lines;
mod options;
mod remote;
mod stages;
mod target;
mod version;

use anyhow::anyhow;

pub use self::ask::can as can_ask;
use self::compared::Compared;
use self::follow::Follower;
pub use self::lines::Lines;
pub use self::options::Options;
use self::target::Target;
use self::version::Ready;
use super::failure::Failure;
use super::project::Project;

/// How a deployment ended, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployed {
    /// The relay runs the version for good.
    Proven,
    /// The files are in place, and nobody knows what a relay makes of them.
    InPlace,
    /// A person did not want it after all. Nothing was changed.
    No,
}

/// When a person is asked.
#[derive(Debug, Clone, Copy)]
pub enum Asking<'a> {
    /// If outcomes differ, and if somebody is there.
    IfChanged,
    /// In any case, with this question. Nobody to ask means no.
    Always(&'a str),
}

/// Deploys the module of this folder.
pub fn deploy(
    project: &Project,
    options: &Options,
    asking: Asking<'_>,
    lines: &mut Lines<'_>,
) -> Result<Deployed, Failure> {
    let config = options.relay.config().load()?;
    let target = Target::new(options, &config)?;
    let ready = Ready::make(project, &target, options, &config, lines)?;
    let compared = match options.no_diff {
        true => Compared::Unasked,
        false => compared::compare(&ready, &target, &config, options.last, lines)?,
    };
    if !is_wanted(&compared, options, asking, lines)? {
        return Ok(Deployed::No);
    }
    let token = target::token(options.token_file.as_deref())?;
    let local = match &target {
        Target::Directory(_) => Some(options.relay.at(None, token)?),
        Target::Relay(_) => None,
    };
    let client = match (&target, &local) {
        (Target::Relay(client), _) => Some(&**client),
        (Target::Directory(_), local) => local.as_ref(),
    };
    let follower = client
        .filter(|_| !options.no_wait)
        .map(|client| Follower::new(client, &ready));
    let changed = target.put(&ready, lines)?;
    let Some(follower) = follower else {
        if !changed.0 {
            lines.say(format_args!(
                "a relay loads them again only when they change: if it has rolled them back, run `slipring modules retry {}`",
                ready.name
            ))?;
        }
        return Ok(Deployed::InPlace);
    };
    match follower {
        Ok(follower) => {
            follower.follow(changed, options.timeout, lines)?;
            Ok(Deployed::Proven)
        }
        Err(why) => {
            lines.say(format_args!("no relay can be followed: {why}"))?;
            Ok(Deployed::InPlace)
        }
    }
}

/// Decides whether the version goes out.
fn is_wanted(
    compared: &Compared,
    options: &Options,
    asking: Asking<'_>,
    lines: &mut Lines<'_>,
) -> Result<bool, Failure> {
    let question = match (compared, asking) {
        (Compared::Changed { changed, messages }, _) if options.expect_same => {
            return Err(anyhow!(
                "nothing was deployed: the outcomes of {changed} of {messages} messages differ, and --expect-same was given"
            )
            .into());
        }
        (Compared::Not(why), _) if options.expect_same => {
            return Err(anyhow!("nothing was deployed: --expect-same needs a comparison, but {why}").into());
        }
        _ if options.yes => return Ok(true),
        (_, Asking::Always(question)) => question,
        (Compared::Changed { .. }, Asking::IfChanged) if can_ask() => "Deploy it?",
        _ => return Ok(true),
    };
    let wanted = ask::ask(question, lines.notes)?;
    if !wanted {
        lines.say("nothing was deployed")?;
    }
    Ok(wanted)
}
