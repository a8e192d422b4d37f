//! What an operation is: its name, parameters, effect, and how to recover it after a crash.

use super::args::CallArgs;
use crate::{
    base::{moment::Span, value},
    provider::{
        Accept, Code, Error, Fleet, Provider, Result,
        fleet::TargetRef,
        model::{CallKey, Job, JobStatus, Progress},
    },
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::{fmt, future::Future, pin::Pin, sync::Arc};

/// One operation of the catalogue.
pub struct Operation {
    /// Where it lives: `backup`, `backup::pitr`.
    pub namespace: &'static str,
    /// Its own name: `restore`.
    pub name: &'static str,
    /// What it does, imperative, without a full stop.
    pub summary: &'static str,
    /// Its parameters: the positional ones first, in order, then the options.
    pub params: &'static [Param],
    /// What it gives back.
    pub returns: ReturnShape,
    /// The worst it can do.
    pub effect: Effect,
    /// What it needs to be allowed, where that depends on the arguments; otherwise its namespace and effect.
    pub needs: Option<fn(&CallArgs) -> Permission>,
    /// What to do with a call that was begun and not ended.
    pub recovery: Recovery,
    /// Script lines that run on the sandbox.
    pub examples: &'static [&'static str],
    pub perform: PerformFn,
}

/// A future that an operation's function returns.
pub type PerformFuture<'a> = Pin<Box<dyn Future<Output = Result<Value>> + Send + 'a>>;
/// The function of an operation.
pub type PerformFn = for<'a> fn(&'a CallContext<'a>, &'a CallArgs) -> PerformFuture<'a>;
/// A future that a probe returns.
pub type ProbeFuture<'a> = Pin<Box<dyn Future<Output = Result<ProbeResult>> + Send + 'a>>;
/// Looks in the world for what a call with this key has made.
pub type Probe = for<'a> fn(&'a CallContext<'a>, &'a CallArgs) -> ProbeFuture<'a>;

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

/// A permission, such as `backup.create`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// The first segment of a namespace.
    pub area: String,
    pub effect: Effect,
}

impl Permission {
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
    pub fn covers(&self, other: &Permission) -> bool {
        self.area == other.area && (self.effect == other.effect || other.effect == Effect::Read)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.area, self.effect.as_str())
    }
}

/// One parameter.
pub struct Param {
    /// Its name; never a reserved word of the script language.
    pub name: &'static str,
    pub kind: ParamKind,
    /// Whether it is given by its place, and must be.
    pub slot: ParamSlot,
    /// One line for people.
    pub help: &'static str,
}

/// How a parameter is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamSlot {
    /// By its place in the call; must be given.
    Positional,
    /// In the options; must be given.
    Named,
    /// In the options; may be left out. The text says what then.
    Optional(&'static str),
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamKind {
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

impl ParamKind {
    /// Returns whether it takes several words on the command line.
    pub const fn is_many(self) -> bool {
        matches!(self, ParamKind::Cidrs | ParamKind::Addresses | ParamKind::Words | ParamKind::Settings)
    }
}

/// The shape of what an operation returns.
pub enum ReturnShape {
    /// One object.
    One(&'static [Field]),
    /// A list of objects.
    List(&'static [Field]),
    /// The rows of a query: a list of objects whose fields the query decides.
    Rows,
    /// Whatever the platform answers.
    Any,
}

impl ReturnShape {
    /// Returns the fields, in the order in which people read them.
    pub fn fields(&self) -> &'static [Field] {
        match self {
            ReturnShape::One(fields) | ReturnShape::List(fields) => fields,
            ReturnShape::Rows | ReturnShape::Any => &[],
        }
    }
}

/// One field of a result.
pub struct Field {
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
pub enum ProbeResult {
    /// It was done, and this is its value.
    Done(Value),
    /// It was accepted and goes on; this is what to wait for.
    Accepted(Value),
    /// Nothing happened.
    NotDone,
}

/// The caller of an operation, as the operation sees it.
pub trait CallHost: Accept {
    /// Reports the progress of the operation.
    fn report_progress(&self, progress: &Progress);
    /// Reports the column order of a query's rows.
    fn report_columns(&self, _columns: &[String]) {}
}

/// What an operation works with.
pub struct CallContext<'a> {
    pub fleet: &'a Fleet,
    /// The call's identity in the world.
    pub key: &'a CallKey,
    /// The run, when there is one.
    pub run: Option<&'a str>,
    /// What the world accepted before a crash, as it was recorded.
    pub accepted: Option<Value>,
    pub host: &'a dyn CallHost,
}

impl CallContext<'_> {
    /// Returns the target or branch that a parameter names, opened.
    ///
    /// # Errors
    /// [`Code::NotFound`], also when a branch of that name is there and is another one.
    pub async fn open_target(&self, given: &Value) -> Result<Arc<dyn Provider>> {
        let place = parse_target_ref(given)?;
        if let Some(id) = value::untag_as(given, value::BRANCH_TAG).and_then(|b| b["id"].as_str()) {
            let name = place.branch.as_deref().unwrap_or_default();
            let there = self.fleet.open_target(&place.target)?.branches()?.get(name).await?;
            if there.id != id {
                return Err(Error::new(Code::NotFound, format!("branch `{place}` is gone"))
                    .with_hint(format!("a later branch has its name: it was made {}", there.created_at)));
            }
        }
        self.fleet.open_target_ref(&place).await
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
    pub async fn adopt_or_start_job(&self, ask: impl Future<Output = Result<Job>>) -> Result<Job> {
        if let Some(recorded) = self.accepted.clone().filter(|recorded| !is_intent(recorded)) {
            return serde_json::from_value(recorded).map_err(|e| {
                Error::new(Code::Internal, format!("the journal holds no job where one belongs: {e}"))
            });
        }
        let job = ask.await?;
        self.record_accepted(&job).await?;
        Ok(job)
    }

    /// Waits for a job. At the timeout the job is cancelled and what it made is removed. An error that only says
    /// that the job cannot be polled right now is ignored.
    ///
    /// # Errors
    /// What the job failed with, or [`Code::Timeout`]; what could not be removed again is named in it.
    pub async fn wait_for_job(&self, provider: &dyn Provider, job: &Job, timeout: Span) -> Result<Value> {
        let clock = self.fleet.clock();
        let deadline = clock.now().saturating_add(timeout);
        let mut waited = Span::ZERO;
        let mut blind: Option<Error> = None;
        loop {
            let again_in = match provider.observe(job).await {
                Ok(JobStatus::Done(value)) => return Ok(value),
                Ok(JobStatus::Running(progress)) => {
                    self.host.report_progress(&progress);
                    progress.again_in
                }
                Err(e) if is_poll_failure(e.code) => {
                    blind.get_or_insert(e);
                    None
                }
                Err(e) if e.code == Code::Denied => return cancel_job(provider, job, e).await,
                // A provider that failed for a while may have dropped the job since: report that first failure.
                Err(e) if e.code == Code::NotFound => return Err(blind.unwrap_or(e)),
                Err(e) => return Err(e),
            };
            if clock.now() >= deadline {
                let late =
                    Error::new(Code::Timeout, format!("the {} was not done within {timeout}", job.kind))
                        .with_hint("give it more with `timeout:`");
                return cancel_job(provider, job, late).await;
            }
            let pause = again_in.unwrap_or_else(|| next_poll_delay(waited));
            provider.pause(clock.as_ref(), pause).await;
            waited = Span(waited.0.saturating_add(pause.0));
        }
    }

    /// Looks again and again until it is as wanted, or the time is up: `None`. That it cannot be looked at for a while
    /// says nothing.
    ///
    /// # Errors
    /// The first poll error that is not transient.
    pub async fn poll_until<F: Future<Output = Result<JobStatus>> + Send>(
        &self,
        provider: &dyn Provider,
        timeout: Span,
        mut look: impl FnMut() -> F + Send,
    ) -> Result<Option<Value>> {
        let clock = self.fleet.clock();
        let deadline = clock.now().saturating_add(timeout);
        let mut waited = Span::ZERO;
        loop {
            let again_in = match look().await {
                Ok(JobStatus::Done(value)) => return Ok(Some(value)),
                Ok(JobStatus::Running(progress)) => {
                    self.host.report_progress(&progress);
                    progress.again_in
                }
                Err(e) if is_poll_failure(e.code) => None,
                Err(e) => return Err(e),
            };
            if clock.now() >= deadline {
                return Ok(None);
            }
            let pause = again_in.unwrap_or_else(|| next_poll_delay(waited));
            provider.pause(clock.as_ref(), pause).await;
            waited = Span(waited.0.saturating_add(pause.0));
        }
    }

    /// Writes down what the world accepted.
    ///
    /// # Errors
    /// Whatever writing it down says.
    pub async fn record_accepted(&self, what: &impl serde::Serialize) -> Result<()> {
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
pub struct Intent<'a>(&'a dyn CallHost);

#[async_trait]
impl Accept for Intent<'_> {
    async fn accepted(&self, what: Value) -> Result<()> {
        self.0.accepted(json!({ INTENT: what })).await
    }
}

/// Returns whether an error says only that the job could not be polled.
fn is_poll_failure(code: Code) -> bool {
    matches!(code, Code::Throttled | Code::Unavailable | Code::Timeout | Code::Unknown)
}

/// Gives a job up for a reason, unless it turns out to be done. What it made and cannot be removed is named. Of a job
/// that nobody can stop its provider says what to do.
async fn cancel_job(provider: &dyn Provider, job: &Job, why: Error) -> Result<Value> {
    let Err(refusal) = provider.cancel(job).await else { return Err(why) };
    let why = match refusal {
        Error { code: Code::Unsupported, hint: Some(hint), .. } => {
            let own = why.hint.clone().map(|own| format!("{own}; ")).unwrap_or_default();
            why.with_hint(format!("{own}{hint}"))
        }
        _ => why,
    };
    match provider.observe(job).await {
        Ok(JobStatus::Done(value)) => Ok(value),
        Err(e) if !is_poll_failure(e.code) && e.code != Code::Denied => Err(why),
        Ok(JobStatus::Running(_)) | Err(_) => Err(why.with_left_behind(format!("{} {}", job.kind, job.id))),
    }
}

/// Returns when to look again at a job that was waited for so long: soon enough that looking late adds a twentieth to
/// any part of it at most.
fn next_poll_delay(waited: Span) -> Span {
    Span(waited.0 / 20).clamp(Span::from_millis(20), Span::from_millis(500))
}

/// Returns the place that a value of [`ParamKind::Target`] names.
///
/// # Errors
/// [`Code::Invalid`].
pub fn parse_target_ref(given: &Value) -> Result<TargetRef> {
    match (value::untag_value(given), given) {
        (Some((value::TARGET_TAG, Value::String(name))), _) => {
            Ok(TargetRef { target: name.clone(), branch: None })
        }
        (Some((value::BRANCH_TAG, branch)), _) => {
            match (branch["target"].as_str(), branch["name"].as_str()) {
                (Some(target), Some(name)) => {
                    Ok(TargetRef { target: target.into(), branch: Some(name.into()) })
                }
                _ => Err(Error::new(Code::Invalid, "a branch handle without its target or name")),
            }
        }
        (None, Value::String(text)) => Ok(TargetRef::parse(text)),
        _ => Err(Error::new(Code::Invalid, "neither a target nor a branch")),
    }
}

impl Operation {
    /// Returns the name that scripts use: `backup::pitr::restore`.
    pub fn path(&self) -> String {
        format!("{}::{}", self.namespace, self.name)
    }

    /// Returns the words of the command line: `backup`, `pitr`, `restore`.
    pub fn command_words(&self) -> impl Iterator<Item = &'static str> {
        self.namespace.split("::").chain([self.name])
    }

    /// Returns the first segment of the namespace, which is what rights are named after.
    pub fn area(&self) -> &'static str {
        self.namespace.split("::").next().unwrap_or(self.namespace)
    }

    /// Returns the operation that lists what this one makes.
    pub fn find_lister(&self) -> Option<&'static Operation> {
        let ReturnShape::One(made) = self.returns else { return None };
        let names = |fields: &[Field]| fields.iter().map(|field| field.name).collect::<Vec<_>>();
        let lists =
            |op: &&Operation| matches!(op.returns, ReturnShape::List(all) if names(all) == names(made));
        super::all_operations().filter(|op| op.name == "list").find(lists)
    }

    /// Returns the right that a call with these arguments needs.
    pub fn required_permission(&self, args: &CallArgs) -> Permission {
        self.needs.map_or_else(|| Permission::new(self.area(), self.effect), |needs| needs(args))
    }

    /// Returns the worst right that any call could need: a call of which nothing is known needs that one.
    pub fn worst_permission(&self) -> Permission {
        self.required_permission(&CallArgs::from_unchecked(serde_json::Map::new()))
    }

    /// Returns the timeout of a call that gives none.
    pub fn default_timeout(&self) -> Span {
        if matches!(self.recovery, Recovery::Read) { Span::from_secs(30) } else { Span::from_secs(3600) }
    }

    /// Returns the positional parameters.
    pub fn positional_params(&self) -> impl Iterator<Item = &'static Param> {
        self.params.iter().filter(|p| p.slot == ParamSlot::Positional)
    }

    /// Returns the options, `timeout` included.
    pub fn option_params(&self) -> impl Iterator<Item = &'static Param> {
        self.params.iter().filter(|p| p.slot != ParamSlot::Positional).chain([&TIMEOUT_PARAM])
    }

    /// Returns the call as a person would write it: `backup::get(target, backup)`.
    pub fn script_signature(&self) -> String {
        let mut args: Vec<_> = self.positional_params().map(|p| p.name.to_owned()).collect();
        if self.option_params().count() > 0 {
            args.push("#{…}".into());
        }
        format!("{}({})", self.path(), args.join(", "))
    }
}

/// The option that every operation takes.
pub static TIMEOUT_PARAM: Param = Param {
    name: "timeout",
    kind: ParamKind::Duration,
    slot: ParamSlot::Optional("1h, and 30s for what only looks"),
    help: "how long it may take",
};
