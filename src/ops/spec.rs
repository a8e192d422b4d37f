//! What an operation is: its words, its arguments, its effect, and what to do with it after a crash.

use super::args::Args;
use crate::{
    base::{moment::Span, value},
    provider::{
        Accept, Code, Error, Fleet, Provider, Result,
        fleet::Place,
        model::{Job, Key, Observed, Progress},
    },
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::{fmt, future::Future, pin::Pin, sync::Arc};

/// One operation: everything that anybody needs to know about it.
pub struct Op {
    /// Where it lives: `backup`, `backup::pitr`.
    pub namespace: &'static str,
    /// Its own name: `restore`.
    pub name: &'static str,
    /// What it does, imperative, without a full stop.
    pub summary: &'static str,
    /// Its parameters: the positional ones first, in order, then the options.
    pub params: &'static [Param],
    /// What it gives back.
    pub returns: Returns,
    /// The worst it can do.
    pub effect: Effect,
    /// What it needs to be allowed, where that depends on the arguments; otherwise its namespace and effect.
    pub needs: Option<fn(&Args) -> Need>,
    /// What to do with a call that was begun and not ended.
    pub recovery: Recovery,
    /// Script lines that run on the sandbox.
    pub examples: &'static [&'static str],
    /// Does it.
    pub perform: Perform,
}

/// A future that an operation's function returns.
pub type Performing<'a> = Pin<Box<dyn Future<Output = Result<Value>> + Send + 'a>>;
/// The function of an operation.
pub type Perform = for<'a> fn(&'a Context<'a>, &'a Args) -> Performing<'a>;
/// A future that a probe returns.
pub type Probing<'a> = Pin<Box<dyn Future<Output = Result<Probed>> + Send + 'a>>;
/// Looks in the world for what a call's key would have made.
pub type Probe = for<'a> fn(&'a Context<'a>, &'a Args) -> Probing<'a>;

/// What an operation does to the world, from harmless to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Looks.
    Read,
    /// Makes something new.
    Create,
    /// Changes something that is there.
    Change,
    /// Removes or overwrites something.
    Destroy,
}

impl Effect {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::Read => "read",
            Effect::Create => "create",
            Effect::Change => "change",
            Effect::Destroy => "destroy",
        }
    }
}

/// A right: `backup.create`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Need {
    /// The first segment of a namespace.
    pub area: String,
    /// The effect.
    pub effect: Effect,
}

impl Need {
    /// Returns the right to `effect` in the namespace whose first segment is `area`.
    pub fn new(area: &str, effect: Effect) -> Self {
        Self { area: area.into(), effect }
    }

    /// Reads `backup.create`.
    pub fn parse(text: &str) -> Option<Self> {
        let (area, effect) = text.split_once('.')?;
        let effect = [Effect::Read, Effect::Create, Effect::Change, Effect::Destroy]
            .into_iter()
            .find(|e| e.as_str() == effect)?;
        Some(Self::new(area, effect))
    }

    /// Returns whether holding this right allows `other`: the same, or a read in the same area.
    pub fn covers(&self, other: &Need) -> bool {
        self.area == other.area && (self.effect == other.effect || other.effect == Effect::Read)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.area, self.effect.as_str())
    }
}

/// One parameter.
pub struct Param {
    /// Its name; never a reserved word of the script language.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether it is given by its place, and must be.
    pub slot: Slot,
    /// One line for people.
    pub help: &'static str,
}

/// How a parameter is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// By its place in the call; must be given.
    Positional,
    /// In the options; must be given.
    Named,
    /// In the options; may be left out. The text says what then.
    Optional(&'static str),
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A target or a branch, by handle or as `target` or `target/branch`.
    Target,
    /// A backup, by handle or id.
    Backup,
    /// A branch, by handle or name.
    Branch,
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// True or false.
    Bool,
    /// A length of time: `"45m"`.
    Duration,
    /// An instant, RFC 3339 with a zone.
    Moment,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// Where to recover to: `#{time: …}`, `#{xid: …}`, `#{lsn: …}` or `#{name: …}`.
    Point,
    /// A time of day in UTC: `"03:00"`.
    Clock,
    /// A range of addresses, or a list of them: `"203.0.113.0/24"`.
    Cidrs,
    /// An address, or a list of them.
    Addresses,
    /// A name, or a list of them.
    Words,
    /// Settings by name: `#{work_mem: "8MB"}`; `()` takes an override away.
    Settings,
    /// Whatever JSON can say.
    Json,
}

impl Kind {
    /// Returns whether it takes several words on the command line.
    pub const fn is_many(self) -> bool {
        matches!(self, Kind::Cidrs | Kind::Addresses | Kind::Words | Kind::Settings)
    }
}

/// What an operation gives back.
pub enum Returns {
    /// One object.
    One(&'static [Field]),
    /// A list of objects.
    List(&'static [Field]),
    /// The rows of a query: a list of objects whose fields the query decides.
    Rows,
    /// Whatever the platform answers.
    Any,
}

impl Returns {
    /// Returns the fields, in the order in which people read them.
    pub fn fields(&self) -> &'static [Field] {
        match self {
            Returns::One(fields) | Returns::List(fields) => fields,
            Returns::Rows | Returns::Any => &[],
        }
    }
}

/// One field of a result.
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its type, for people: `text`, `int`, `moment`.
    pub kind: &'static str,
    /// One line for people; units where there are any.
    pub help: &'static str,
}

/// Returns a field. A short name keeps lists of fields readable.
pub const fn field(name: &'static str, kind: &'static str, help: &'static str) -> Field {
    Field { name, kind, help }
}

/// What to do with a call that was begun and whose end was never recorded.
pub enum Recovery {
    /// It only looks: do it again.
    Read,
    /// It only looks, as often as it takes until something is so: look again.
    Wait,
    /// Ask the world for what its key would have made.
    Probe(Probe),
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq)]
pub enum Probed {
    /// It was done, and this is its value.
    Done(Value),
    /// It was accepted and goes on; this is what to wait for.
    Accepted(Value),
    /// Nothing happened.
    NotDone,
}

/// Whoever runs an operation, as the operation sees it.
pub trait Host: Accept {
    /// Hears how far the operation is.
    fn progress(&self, progress: &Progress);
    /// Hears in which order the columns of a query's rows came.
    fn columns(&self, _columns: &[String]) {}
}

/// What an operation works with.
pub struct Context<'a> {
    /// The targets.
    pub fleet: &'a Fleet,
    /// The call's identity in the world.
    pub key: &'a Key,
    /// The run, when there is one.
    pub run: Option<&'a str>,
    /// What the world accepted before a crash, as it was recorded.
    pub accepted: Option<Value>,
    /// Whoever runs this.
    pub host: &'a dyn Host,
}

impl Context<'_> {
    /// Returns the target or branch that a parameter names, opened.
    ///
    /// # Errors
    /// [`Code::NotFound`], also when a branch of that name is there and is another one.
    pub async fn place(&self, given: &Value) -> Result<Arc<dyn Provider>> {
        let place = place_of(given)?;
        if let Some(id) = value::inside(given, value::BRANCH).and_then(|b| b["id"].as_str()) {
            let name = place.branch.as_deref().unwrap_or_default();
            let there = self.fleet.target(&place.target)?.branches()?.get(name).await?;
            if there.id != id {
                return Err(Error::new(Code::NotFound, format!("branch `{place}` is gone"))
                    .hint(format!("a later branch has its name: it was made {}", there.created_at)));
            }
        }
        self.fleet.place(&place).await
    }

    /// Returns where a provider writes down how the world was, before it asks a platform that keeps no key.
    pub fn intent(&self) -> Intent<'_> {
        Intent(self.host)
    }

    /// Returns what was written down there before a crash, when nothing was accepted since.
    pub fn intended(&self) -> Option<&Value> {
        self.accepted.as_ref()?.get(INTENT)
    }

    /// Returns the job of this call: the one that was recorded before a crash, else the one that `ask` now gets
    /// accepted, recorded before anything waits for it.
    ///
    /// # Errors
    /// What `ask` says, or [`Code::Internal`] when the record holds something else.
    pub async fn job(&self, ask: impl Future<Output = Result<Job>>) -> Result<Job> {
        if let Some(recorded) = self.accepted.clone().filter(|recorded| !is_intent(recorded)) {
            return serde_json::from_value(recorded).map_err(|e| {
                Error::new(Code::Internal, format!("the journal holds no job where one belongs: {e}"))
            });
        }
        let job = ask.await?;
        self.accept(&job).await?;
        Ok(job)
    }

    /// Waits for a job. When the time is up the job is given up and what it made is removed. That it cannot be looked
    /// at for a while says nothing of the job.
    ///
    /// # Errors
    /// What the job failed with, or [`Code::Timeout`]; what could not be removed again is named in it.
    pub async fn follow(&self, provider: &dyn Provider, job: &Job, timeout: Span) -> Result<Value> {
        let clock = self.fleet.clock();
        let deadline = clock.now().plus(timeout);
        let mut waited = Span::ZERO;
        let mut blind: Option<Error> = None;
        loop {
            let again_in = match provider.observe(job).await {
                Ok(Observed::Done(value)) => return Ok(value),
                Ok(Observed::Running(progress)) => {
                    self.host.progress(&progress);
                    progress.again_in
                }
                Err(e) if is_blind(e.code) => {
                    blind.get_or_insert(e);
                    None
                }
                Err(e) if e.code == Code::Denied => return give_up(provider, job, e).await,
                // A provider that failed in passing, and has cleared up since, knows the job no more.
                Err(e) if e.code == Code::NotFound => return Err(blind.unwrap_or(e)),
                Err(e) => return Err(e),
            };
            if clock.now() >= deadline {
                let late =
                    Error::new(Code::Timeout, format!("the {} was not done within {timeout}", job.kind))
                        .hint("give it more with `timeout:`");
                return give_up(provider, job, late).await;
            }
            let pause = again_in.unwrap_or_else(|| next_look(waited));
            provider.pause(clock.as_ref(), pause).await;
            waited = Span(waited.0.saturating_add(pause.0));
        }
    }

    /// Looks again and again until it is as wanted, or the time is up: `None`. That it cannot be looked at for a while
    /// says nothing.
    ///
    /// # Errors
    /// What a look says that does not pass.
    pub async fn until<F: Future<Output = Result<Observed>> + Send>(
        &self,
        provider: &dyn Provider,
        timeout: Span,
        mut look: impl FnMut() -> F + Send,
    ) -> Result<Option<Value>> {
        let clock = self.fleet.clock();
        let deadline = clock.now().plus(timeout);
        let mut waited = Span::ZERO;
        loop {
            let again_in = match look().await {
                Ok(Observed::Done(value)) => return Ok(Some(value)),
                Ok(Observed::Running(progress)) => {
                    self.host.progress(&progress);
                    progress.again_in
                }
                Err(e) if is_blind(e.code) => None,
                Err(e) => return Err(e),
            };
            if clock.now() >= deadline {
                return Ok(None);
            }
            let pause = again_in.unwrap_or_else(|| next_look(waited));
            provider.pause(clock.as_ref(), pause).await;
            waited = Span(waited.0.saturating_add(pause.0));
        }
    }

    /// Writes down what the world accepted.
    ///
    /// # Errors
    /// Whatever writing it down says.
    pub async fn accept(&self, what: &impl serde::Serialize) -> Result<()> {
        let what = serde_json::to_value(what).map_err(|e| Error::new(Code::Internal, e.to_string()))?;
        self.host.accepted(what).await
    }
}

/// The field under which what was written down before asking is told from what was accepted.
const INTENT: &str = "$intent";

/// Returns whether a record says what was about to be asked, and not what was accepted.
pub fn is_intent(recorded: &Value) -> bool {
    recorded.get(INTENT).is_some()
}

/// Where a provider writes down how the world was, before it asks for something that carries no key.
pub struct Intent<'a>(&'a dyn Host);

#[async_trait]
impl Accept for Intent<'_> {
    async fn accepted(&self, what: Value) -> Result<()> {
        self.0.accepted(json!({ INTENT: what })).await
    }
}

/// Returns whether an error means that a job could not be looked at, and nothing else.
fn is_blind(code: Code) -> bool {
    matches!(code, Code::Throttled | Code::Unavailable | Code::Timeout | Code::Unknown)
}

/// Gives a job up for a reason, unless it turns out to be done. What it made and cannot be removed is named. Of a job
/// that nobody can stop its provider says what to do.
async fn give_up(provider: &dyn Provider, job: &Job, why: Error) -> Result<Value> {
    let Err(refusal) = provider.cancel(job).await else { return Err(why) };
    let why = match refusal {
        Error { code: Code::Unsupported, hint: Some(hint), .. } => {
            let own = why.hint.clone().map(|own| format!("{own}; ")).unwrap_or_default();
            why.hint(format!("{own}{hint}"))
        }
        _ => why,
    };
    match provider.observe(job).await {
        Ok(Observed::Done(value)) => Ok(value),
        Err(e) if !is_blind(e.code) && e.code != Code::Denied => Err(why),
        Ok(Observed::Running(_)) | Err(_) => Err(why.leaving(format!("{} {}", job.kind, job.id))),
    }
}

/// Returns when to look again at a job that was waited for so long: soon enough that looking late adds a twentieth to
/// any part of it at most.
fn next_look(waited: Span) -> Span {
    Span(waited.0 / 20).clamp(Span::millis(20), Span::millis(500))
}

/// Returns the place that a value of [`Kind::Target`] names.
///
/// # Errors
/// [`Code::Invalid`].
pub fn place_of(given: &Value) -> Result<Place> {
    match (value::untag(given), given) {
        (Some((value::TARGET, Value::String(name))), _) => Ok(Place { target: name.clone(), branch: None }),
        (Some((value::BRANCH, branch)), _) => match (branch["target"].as_str(), branch["name"].as_str()) {
            (Some(target), Some(name)) => Ok(Place { target: target.into(), branch: Some(name.into()) }),
            _ => Err(Error::new(Code::Invalid, "a branch handle without its target or name")),
        },
        (None, Value::String(text)) => Ok(Place::parse(text)),
        _ => Err(Error::new(Code::Invalid, "neither a target nor a branch")),
    }
}

impl Op {
    /// Returns the name that scripts use: `backup::pitr::restore`.
    pub fn path(&self) -> String {
        format!("{}::{}", self.namespace, self.name)
    }

    /// Returns the words of the command line: `backup`, `pitr`, `restore`.
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        self.namespace.split("::").chain([self.name])
    }

    /// Returns the first segment of the namespace, which is what rights are named after.
    pub fn area(&self) -> &'static str {
        self.namespace.split("::").next().unwrap_or(self.namespace)
    }

    /// Returns the operation that lists what this one makes.
    pub fn lister(&self) -> Option<&'static Op> {
        let Returns::One(made) = self.returns else { return None };
        let names = |fields: &[Field]| fields.iter().map(|field| field.name).collect::<Vec<_>>();
        let lists = |op: &&Op| matches!(op.returns, Returns::List(all) if names(all) == names(made));
        super::all().filter(|op| op.name == "list").find(lists)
    }

    /// Returns the right that a call with these arguments needs.
    pub fn need(&self, args: &Args) -> Need {
        self.needs.map_or_else(|| Need::new(self.area(), self.effect), |needs| needs(args))
    }

    /// Returns the worst right that any call could need: a call of which nothing is known needs that one.
    pub fn worst_need(&self) -> Need {
        self.need(&Args::sample(serde_json::Map::new()))
    }

    /// Returns how long a call may take that does not say.
    pub fn patience(&self) -> Span {
        if matches!(self.recovery, Recovery::Read) { Span::seconds(30) } else { Span::seconds(3600) }
    }

    /// Returns the positional parameters.
    pub fn positional(&self) -> impl Iterator<Item = &'static Param> {
        self.params.iter().filter(|p| p.slot == Slot::Positional)
    }

    /// Returns the options, `timeout` included.
    pub fn options(&self) -> impl Iterator<Item = &'static Param> {
        self.params.iter().filter(|p| p.slot != Slot::Positional).chain([&TIMEOUT])
    }

    /// Returns the call as a person would write it: `backup::get(target, backup)`.
    pub fn signature(&self) -> String {
        let mut args: Vec<_> = self.positional().map(|p| p.name.to_owned()).collect();
        if self.options().count() > 0 {
            args.push("#{…}".into());
        }
        format!("{}({})", self.path(), args.join(", "))
    }
}

/// The option that every operation takes.
pub static TIMEOUT: Param = Param {
    name: "timeout",
    kind: Kind::Duration,
    slot: Slot::Optional("1h, and 30s for what only looks"),
    help: "how long it may take",
};
