//! What a child process does: one task of one contestant at one size.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use folkmoot_mls::codec::Encode;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::cell::{Contestant, Row, Task};
use crate::clock::{resident_memory, timed};
use crate::contestant::credentials::{Basic, Credentials, Own};
use crate::contestant::mls_rs::MlsRs;
use crate::contestant::openmls::{Libcrux, OpenMls, RustCrypto};
use crate::contestant::ours::{self, Ours};
use crate::member::{CredentialKind, Failure, Member, Options};
use crate::setting::{self, Setting, SettingError, Shape};

/// How long an operation is repeated in one child.
const BUDGET: Duration = Duration::from_millis(400);

/// How often at most.
const MOST: usize = 200;

/// How often at least an operation is repeated, unless that takes too long.
const LEAST: usize = 5;

/// What is too long; and for what is measured on the clock, which anything may disturb.
const PATIENCE: Duration = Duration::from_secs(4);
const ON_THE_CLOCK: Duration = Duration::from_secs(40);

/// Messages timed together, since one takes not much longer than reading the clock.
const BATCH: usize = 64;

/// Where the child's samples go, as they come.
pub trait Samples {
    /// One row's samples, in milliseconds or bytes.
    fn take(&mut self, row: Row, samples: &[f64]);
}

/// A child's task.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The run's folder, with KeyPackages.
    pub folder: &'a Path,
    /// What.
    pub task: Task,
    /// Who.
    pub contestant: Contestant,
    /// The size of the group.
    pub members: u32,
}

/// Does it.
///
/// # Errors
/// The contestant's, or the setting's.
pub fn perform(job: &Job<'_>, samples: &mut dyn Samples) -> Result<(), SettingError> {
    match job.contestant {
        Contestant::Ours => match job.task {
            Task::Values => job.values::<Basic>(samples),
            Task::Threads => job.threads(samples),
            _ => job.perform::<Ours<Basic>>(samples),
        },
        Contestant::OwnCredential => match job.task {
            Task::Values => job.values::<Own>(samples),
            _ => job.perform::<Ours<Own>>(samples),
        },
        Contestant::OpenMlsLibcrux => job.perform::<OpenMls<Libcrux>>(samples),
        Contestant::OpenMlsCompact => job.perform::<OpenMls<RustCrypto>>(samples),
        Contestant::OpenMlsRustCrypto => job.perform::<OpenMls<RustCrypto>>(samples),
        Contestant::MlsRs => job.perform::<MlsRs>(samples),
    }
}

/// Repeats an operation that gives a sample.
fn repeat<E>(operation: impl FnMut() -> Result<f64, E>) -> Result<Vec<f64>, E> {
    repeat_for(PATIENCE, operation)
}

/// The same; until it has been repeated [`LEAST`] times, as long as `patience` lasts.
fn repeat_for<E>(
    patience: Duration,
    mut operation: impl FnMut() -> Result<f64, E>,
) -> Result<Vec<f64>, E> {
    let started = Instant::now();
    let mut samples = vec![operation()?];
    loop {
        let used = started.elapsed();
        let enough = samples.len() >= LEAST || used >= patience;
        if samples.len() >= MOST || enough && used >= BUDGET {
            return Ok(samples);
        }
        samples.push(operation()?);
    }
}

fn timed_result<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(f64, T), E> {
    let (milliseconds, result) = timed(work);
    Ok((milliseconds, result?))
}

impl Job<'_> {
    fn perform<M: Member>(&self, samples: &mut dyn Samples) -> Result<(), SettingError> {
        match self.task {
            Task::CreateInside => self.create::<M>(Row::CreateInside, false, samples),
            Task::CreateApart => self.create::<M>(Row::CreateApart, true, samples),
            Task::JoinInside => self.join::<M>(Row::JoinInside, false, samples),
            Task::JoinApart => self.join::<M>(Row::JoinApart, true, samples),
            Task::Blank => self.blank::<M>(samples),
            Task::Filled => self.filled::<M>(samples),
            Task::Messages => self.messages::<M>(samples),
            Task::StoredCommits => self.stored_commits::<M>(samples),
            Task::StoredMessages => self.stored_messages::<M>(samples),
            Task::Open => self.open::<M>(samples),
            Task::Resident => self.resident::<M>(samples),
            Task::Values | Task::Threads => Ok(()),
        }
    }

    fn create<M: Member>(
        &self,
        row: Row,
        tree_apart: bool,
        samples: &mut dyn Samples,
    ) -> Result<(), SettingError> {
        let key_packages = setting::key_packages(self.folder, M::CREDENTIAL, self.members)?;
        let options = Options {
            tree_apart,
            ..Options::default()
        };
        let all = repeat(|| {
            let mut founder = M::new("founder", &options)?;
            founder.found()?;
            let (milliseconds, _) = timed_result(|| founder.add(&key_packages))?;
            Ok::<_, Failure>(milliseconds)
        })?;
        samples.take(row, &all);
        Ok(())
    }

    fn setting<M: Member>(&self, shape: Shape, tree_apart: bool) -> Setting<'_> {
        Setting {
            folder: self.folder,
            shape,
            members: self.members,
            credential: M::CREDENTIAL,
            tree_apart,
        }
    }

    /// A client with an invitation to a blank tree.
    fn guest<M: Member>(
        &self,
        options: &Options,
        tree_apart: bool,
    ) -> Result<(M, setting::Invitation), SettingError> {
        let mut guest = M::new("guest", options)?;
        let key_packages = [guest.key_package()?];
        let setting = self.setting::<M>(Shape::Blank, tree_apart);
        let mut invitations = setting.invite(&key_packages)?;
        Ok((guest, invitations.remove(0)))
    }

    fn join<M: Member>(
        &self,
        row: Row,
        tree_apart: bool,
        samples: &mut dyn Samples,
    ) -> Result<(), SettingError> {
        let (mut guest, invitation) = self.guest::<M>(&Options::default(), tree_apart)?;
        let all = repeat(|| {
            let (welcome, tree) = (&invitation.welcome, invitation.tree.as_deref());
            timed_result(|| guest.join(welcome, tree)).map(|(milliseconds, ())| milliseconds)
        })?;
        samples.take(row, &all);
        Ok(())
    }

    /// Two members of one group, one in each half of its tree.
    fn pair<M: Member>(
        &self,
        shape: Shape,
        stored: bool,
    ) -> Result<(Pair<M>, Vec<setting::Invitation>), SettingError> {
        let options = |name: &str| Options {
            store: stored.then(|| self.store(name)),
            tree_apart: true,
            compact: self.contestant == Contestant::OpenMlsCompact,
            two_threads: false,
        };
        let mut second = M::new("second", &options("second"))?;
        if self.members == 2 {
            // Nobody else is there to add them.
            let inside = Options {
                tree_apart: false,
                ..options("first")
            };
            let mut first = M::new("first", &inside)?;
            first.found()?;
            let welcome = first.add(&[second.key_package()?])?;
            second.join(&welcome, None)?;
            let invitation = setting::Invitation {
                welcome,
                tree: None,
            };
            let mut pair = Pair { first, second };
            pair.settle(shape)?;
            return Ok((pair, vec![invitation.clone(), invitation]));
        }
        let mut first = M::new("first", &options("first"))?;
        let key_packages = [second.key_package()?, first.key_package()?];
        let mut invitations = self.setting::<M>(shape, false).invite(&key_packages)?;
        invitations.reverse();
        for (guest, invitation) in [&mut first, &mut second].into_iter().zip(&invitations) {
            guest.join(&invitation.welcome, invitation.tree.as_deref())?;
        }
        let mut pair = Pair { first, second };
        pair.settle(shape)?;
        Ok((pair, invitations))
    }

    fn store(&self, name: &str) -> PathBuf {
        self.folder
            .join(format!("store-{}-{name}", std::process::id()))
    }

    fn blank<M: Member>(&self, samples: &mut dyn Samples) -> Result<(), SettingError> {
        let (mut pair, invitations) = self.pair::<M>(Shape::Blank, false)?;
        let mut commits = Vec::new();
        let all = repeat(|| {
            if !commits.is_empty() {
                pair.first.discard()?;
            }
            let (milliseconds, commit) = timed_result(|| pair.first.commit())?;
            commits.push(commit);
            Ok::<_, Failure>(milliseconds)
        })?;
        // Later ones have used up more keys, which who reads them would have to derive.
        let commit = commits.swap_remove(0);
        samples.take(Row::BlankCreate, &all);
        let all = repeat(|| {
            let (milliseconds, ()) = timed_result(|| pair.second.process(&commit))?;
            // Who joins once more is back in the epoch before.
            let again = &invitations[1];
            pair.second.join(&again.welcome, again.tree.as_deref())?;
            Ok::<_, Failure>(milliseconds)
        })?;
        samples.take(Row::BlankProcess, &all);
        Ok(())
    }

    fn filled<M: Member>(&self, samples: &mut dyn Samples) -> Result<(), SettingError> {
        let (mut pair, _) = self.pair::<M>(Shape::Filled, false)?;
        let (mut create, mut process) = (Vec::new(), Vec::new());
        repeat(|| {
            let (created, commit) = timed_result(|| pair.first.commit())?;
            let (processed, ()) = timed_result(|| pair.second.process(&commit))?;
            pair.first.merge()?;
            create.push(created);
            process.push(processed);
            Ok::<_, Failure>(0.0)
        })?;
        pair.agree()?;
        samples.take(Row::FilledCreate, &create);
        samples.take(Row::FilledProcess, &process);
        Ok(())
    }

    fn messages<M: Member>(&self, samples: &mut dyn Samples) -> Result<(), SettingError> {
        let (mut pair, _) = self.pair::<M>(Shape::Blank, false)?;
        let (mut encrypt, mut decrypt) = (Vec::new(), Vec::new());
        let batch = BATCH as f64;
        repeat(|| {
            let (milliseconds, messages) = timed_result(|| {
                (0..BATCH)
                    .map(|_| pair.first.encrypt(&[7; 100]))
                    .collect::<Result<Vec<_>, _>>()
            })?;
            encrypt.push(milliseconds / batch);
            let (milliseconds, ()) = timed_result(|| {
                messages
                    .iter()
                    .try_for_each(|message| pair.second.decrypt(message).map(drop))
            })?;
            decrypt.push(milliseconds / batch);
            Ok::<_, Failure>(0.0)
        })?;
        samples.take(Row::Encrypt, &encrypt);
        samples.take(Row::Decrypt, &decrypt);
        Ok(())
    }

    fn stored_commits<M: Member>(&self, samples: &mut dyn Samples) -> Result<(), SettingError> {
        let (mut pair, _) = self.pair::<M>(Shape::Filled, true)?;
        let (mut create, mut process, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        let mut own_bytes = Vec::new();
        repeat(|| {
            pair.first.written();
            let (created, commit) = timed_result(|| {
                let commit = pair.first.commit()?;
                pair.first.merge()?;
                Ok::<_, Failure>(commit)
            })?;
            own_bytes.push(pair.first.written() as f64);
            pair.second.written();
            let (processed, ()) = timed_result(|| pair.second.process(&commit))?;
            create.push(created);
            process.push(processed);
            bytes.push(pair.second.written() as f64);
            Ok::<_, Failure>(0.0)
        })?;
        pair.agree()?;
        samples.take(Row::FilledCreateStored, &create);
        samples.take(Row::FilledProcessStored, &process);
        samples.take(Row::CommitBytes, &bytes);
        samples.take(Row::OwnCommitBytes, &own_bytes);
        let all = repeat(|| {
            let commit = pair.first.commit()?;
            pair.first.merge()?;
            let (milliseconds, ()) = timed_result(|| {
                pair.second.reopen()?;
                pair.second.process(&commit)
            })?;
            Ok::<_, Failure>(milliseconds)
        })?;
        pair.agree()?;
        samples.take(Row::OpenProcess, &all);
        Ok(())
    }

    fn stored_messages<M: Member>(&self, samples: &mut dyn Samples) -> Result<(), SettingError> {
        let (mut pair, _) = self.pair::<M>(Shape::Blank, true)?;
        let (mut encrypt, mut decrypt, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        // The first message of a sender makes its ratchets.
        let first = pair.first.encrypt(&[7; 100])?;
        pair.second.decrypt(&first)?;
        repeat(|| {
            pair.first.written();
            let (encrypted, message) = timed_result(|| pair.first.encrypt(&[7; 100]))?;
            bytes.push(pair.first.written() as f64);
            let (decrypted, _) = timed_result(|| pair.second.decrypt(&message))?;
            encrypt.push(encrypted);
            decrypt.push(decrypted);
            Ok::<_, Failure>(0.0)
        })?;
        samples.take(Row::EncryptStored, &encrypt);
        samples.take(Row::DecryptStored, &decrypt);
        samples.take(Row::MessageBytes, &bytes);
        Ok(())
    }

    fn open<M: Member>(&self, samples: &mut dyn Samples) -> Result<(), SettingError> {
        let options = Options {
            store: Some(self.store("guest")),
            compact: self.contestant == Contestant::OpenMlsCompact,
            ..Options::default()
        };
        let (mut guest, invitation) = self.guest::<M>(&options, false)?;
        guest.join(&invitation.welcome, invitation.tree.as_deref())?;
        let all = repeat(|| {
            let (milliseconds, _) = timed_result(|| {
                guest.reopen()?;
                guest.encrypt(&[7; 100])
            })?;
            Ok::<_, Failure>(milliseconds)
        })?;
        samples.take(Row::Open, &all);
        Ok(())
    }

    fn resident<M: Member>(&self, samples: &mut dyn Samples) -> Result<(), SettingError> {
        let mut guest = M::new("guest", &Options::default())?;
        let key_packages = [guest.key_package()?];
        let before = resident_memory();
        let invitations = self
            .setting::<M>(Shape::Blank, false)
            .invite(&key_packages)?;
        guest.join(&invitations[0].welcome, None)?;
        drop(invitations);
        if let (Some(before), Some(after)) = (before, resident_memory()) {
            samples.take(Row::Resident, &[after.saturating_sub(before) as f64]);
        }
        drop(guest);
        Ok(())
    }

    fn values<C: Credentials>(&self, samples: &mut dyn Samples) -> Result<(), SettingError> {
        let (mut guest, invitation) = self.guest::<Ours<C>>(&Options::default(), false)?;
        guest.join(&invitation.welcome, None)?;
        let group = guest.group()?;
        let clones = repeat(|| {
            let (milliseconds, clones) =
                timed(|| (0..BATCH).map(|_| group.clone()).collect::<Vec<_>>());
            drop(clones);
            Ok::<_, Failure>(milliseconds / BATCH as f64)
        })?;
        samples.take(Row::Clone, &clones);
        samples.take(Row::TreeBytes, &[group.tree_bytes().len() as f64]);
        let mut rng = ChaCha20Rng::seed_from_u64(0);
        let signer = ours::suite().signature_key_pair(&mut rng);
        let newcomer = ours::key_package::<C>("newcomer", &signer, &mut rng)?;
        let welcome = guest.welcome_apart(newcomer.key_package)?;
        let own = welcome
            .secrets
            .first()
            .map_or(0, |own| own.to_bytes().len());
        samples.take(Row::WelcomeOwn, &[own as f64]);
        let shared = welcome.encrypted_group_info.len();
        samples.take(Row::WelcomeShared, &[shared as f64]);
        Ok(())
    }

    /// With one thread and with two, in turns.
    fn threads(&self, samples: &mut dyn Samples) -> Result<(), SettingError> {
        let key_packages = setting::key_packages(self.folder, CredentialKind::Basic, self.members)?;
        let options = |two_threads| Options {
            tree_apart: true,
            two_threads,
            ..Options::default()
        };
        let mut create = [Vec::new(), Vec::new()];
        repeat_for(ON_THE_CLOCK, || {
            for (two_threads, create) in [false, true].into_iter().zip(&mut create) {
                let mut founder = Ours::<Basic>::new("founder", &options(two_threads))?;
                founder.found()?;
                create.push(on_the_clock(|| founder.add(&key_packages))?);
            }
            Ok::<_, Failure>(0.0)
        })?;
        samples.take(Row::CreateOneThread, &create[0]);
        samples.take(Row::CreateTwoThreads, &create[1]);
        let mut join = [Vec::new(), Vec::new()];
        let (mut one, of_one) = self.guest::<Ours<Basic>>(&options(false), true)?;
        let (mut two, of_two) = self.guest::<Ours<Basic>>(&options(true), true)?;
        repeat_for(ON_THE_CLOCK, || {
            let tree = of_one.tree.as_deref();
            join[0].push(on_the_clock(|| one.join(&of_one.welcome, tree))?);
            let tree = of_two.tree.as_deref();
            join[1].push(on_the_clock(|| two.join(&of_two.welcome, tree))?);
            Ok::<_, Failure>(0.0)
        })?;
        samples.take(Row::JoinOneThread, &join[0]);
        samples.take(Row::JoinTwoThreads, &join[1]);
        Ok(())
    }
}

/// The milliseconds on the clock that `work` takes.
fn on_the_clock<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<f64, E> {
    let started = Instant::now();
    std::hint::black_box(work()?);
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

struct Pair<M> {
    first: M,
    second: M,
}

impl<M: Member> Pair<M> {
    /// In a filled tree both commit once, as all others have.
    fn settle(&mut self, shape: Shape) -> Result<(), Failure> {
        if shape == Shape::Filled {
            let commit = self.first.commit()?;
            self.second.process(&commit)?;
            self.first.merge()?;
            let commit = self.second.commit()?;
            self.first.process(&commit)?;
            self.second.merge()?;
        }
        self.agree()
    }

    fn agree(&self) -> Result<(), Failure> {
        match self.first.authenticator()? == self.second.authenticator()? {
            true => Ok(()),
            false => Err(Failure::at("the pair", "agree on an epoch")(())),
        }
    }
}
