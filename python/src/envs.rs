//! On the path of a step, between Python and `rollcage::VecEnv`. The GIL is released while a step waits, and Python's
//! signals are checked every 20 ms. Knows batches; knows nothing of Gymnasium.

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::ThreadId;
use std::time::Duration;

use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use rollcage::rollout::{Acting, Amount, Keep};
use rollcage::{Batch, Error, Frame, Oddity, ResetSome, Snapshot, UsageError, VecEnv};

use crate::arguments::{Arguments, parse, policy};
use crate::errors::{exception, fault_object, usage_error};
use crate::{spaces, views};

/// Bits for the rarer content of a batch, besides its plain columns: after a step without any of it, Python asks no
/// more.
pub(crate) mod events {
    /// A row has a final observation.
    pub(crate) const FINAL: u32 = 1;
    /// A row reports a fault.
    pub(crate) const FAULT: u32 = 2;
    /// An env is masked.
    pub(crate) const MASKED: u32 = 4;
    /// A row has an info that was not declared.
    pub(crate) const EXTRA: u32 = 8;
    /// An episode ended by itself or by its time limit.
    pub(crate) const EPISODE: u32 = 16;
    /// A row is a reset.
    pub(crate) const RESET: u32 = 32;
}

/// How often a thread checks signals while it waits for another thread's call.
const LOOK: Duration = Duration::from_millis(5);

/// The row that one call returns: observations (none if the caller has a view), rewards, terminated, truncated, events.
type Row<'py> = (
    Option<Bound<'py, PyArray1<u8>>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<bool>>,
    Bound<'py, PyArray1<bool>>,
    u32,
);

/// The final views: which rows have one; final observations, infos and action masks.
type Finals<'py> =
    (Bound<'py, PyArray1<bool>>, Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<u8>>);

/// The result of a batch of steps: how many, observations, rewards, terminated, truncated.
type Many<'py> = (u32, Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<f64>>, bool, bool);

/// The envs of one `VectorEnv`, for one thread at a time.
#[pyclass(frozen, module = "rollcage._rollcage")]
pub(crate) struct Envs {
    state: Arc<Mutex<State>>,
    /// The process that made the envs: in a fork's child they belong to the parent.
    host: u32,
    /// The thread whose call is under way: a signal handler may run inside that call.
    user: Mutex<Option<ThreadId>>,
    /// True if the thread that uses the envs must close them.
    closing: AtomicBool,
    closed: AtomicBool,
    /// Makes a waiting call return.
    interrupt: Arc<AtomicBool>,
    /// The exception of a signal handler that ran while a call waited.
    raised: Arc<Mutex<Option<PyErr>>>,
}

struct State {
    envs: VecEnv,
    /// Warnings from the making of the envs.
    warnings: Vec<String>,
    actions: Vec<u8>,
    /// The batch that `recv` returned last; its columns are read until the next call.
    received: Option<Batch>,
    /// Whether each call returns a copy of the observations.
    copies: bool,
}

impl State {
    fn batch(&self) -> &Batch {
        self.received.as_ref().unwrap_or(self.envs.last())
    }
}

#[pymethods]
impl Envs {
    /// Compiles and checks, and starts the envs too, unless that is left to [`Envs::start`]. With `copies`, each call returns a
    /// copy of the observations.
    #[new]
    #[pyo3(signature = (arguments, copies, started = true))]
    fn new(py: Python<'_>, arguments: Arguments, copies: bool, started: bool) -> PyResult<Envs> {
        let raised: Arc<Mutex<Option<PyErr>>> = Arc::default();
        let keep = Arc::clone(&raised);
        let made = py.detach(|| {
            let (builder, warnings) = arguments.builder()?;
            let builder = builder.interrupt_when(move || signalled(&keep));
            Ok::<_, Error>((if started { builder.build()? } else { builder.assemble()? }, warnings))
        });
        let (envs, warnings) = made.map_err(|error| error_of(py, &error, &raised))?;
        Ok(Envs::of(envs, warnings, copies, raised))
    }

    /// Starts envs that were made without that.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        self.work(py, |state| state.envs.start())
    }

    // ── Reset and step ──────────────────────────────────────────────────────────────────────────────────────────

    /// Resets the envs of `mask` (all envs without a mask), each from its seed if it has one.
    #[pyo3(signature = (mask, seeds, options))]
    fn reset<'py>(
        &self,
        py: Python<'py>,
        mask: Option<Vec<bool>>,
        seeds: Option<Vec<Option<u64>>>,
        options: Option<&str>,
    ) -> PyResult<Row<'py>> {
        let options = options.map(parse).transpose().map_err(|error| exception(py, &error.into()))?;
        self.work(py, |state| {
            let reset = ResetSome { mask: mask.as_deref(), seeds: seeds.as_deref(), options: options.as_ref() };
            state.envs.reset_some(&reset).map(|_| ())
        })?;
        self.row(py)
    }

    /// Steps every env: one action of the space's stride for each.
    fn step<'py>(&self, py: Python<'py>, actions: PyReadonlyArray1<'py, u8>) -> PyResult<Row<'py>> {
        self.with_actions(py, actions, |envs, actions| envs.step(actions).map(|_| ()))?;
        self.row(py)
    }

    /// Begins a step of every env.
    fn step_async(&self, py: Python<'_>, actions: PyReadonlyArray1<'_, u8>) -> PyResult<()> {
        self.with_actions(py, actions, VecEnv::step_async)
    }

    /// Waits for the step that `step_async` began.
    fn step_wait<'py>(&self, py: Python<'py>) -> PyResult<Row<'py>> {
        self.work(py, |state| state.envs.step_wait().map(|_| ()))?;
        self.row(py)
    }

    /// Begins a step of some envs.
    fn send(&self, py: Python<'_>, actions: PyReadonlyArray1<'_, u8>, env_ids: Vec<usize>) -> PyResult<()> {
        self.with_actions(py, actions, |envs, actions| envs.send(actions, &env_ids))
    }

    /// Returns the envs that have answered, once there are `min_ready` or the timeout is over.
    fn recv<'py>(&self, py: Python<'py>, min_ready: usize, timeout: Option<f64>) -> PyResult<(Vec<usize>, Row<'py>)> {
        /// Longer than anybody waits, and short enough for a clock to add.
        const LONGEST: f64 = 1e9;
        let timeout = timeout.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, LONGEST)));
        let ids = self.work(py, |state| {
            let (ids, batch) = state.envs.recv(min_ready, timeout)?;
            state.received = Some(batch);
            Ok(ids)
        })?;
        Ok((ids, self.row(py)?))
    }

    // ── More of the last call, besides its row ──────────────────────────────────────────────────────────────────

    /// Returns the row of the last call again: after an error of one env, it has the answers of the others.
    fn last<'py>(&self, py: Python<'py>) -> PyResult<Row<'py>> {
        self.row(py)
    }

    /// Observations of the last reset or step, over the host's own memory: the next call overwrites them.
    fn observations<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyArray1<u8>>> {
        let state = slf.get().state(slf.py())?;
        Ok(views::observations(slf.as_any(), &state.envs.last().observations))
    }

    /// Action masks of the last call as bytes, one row per answer.
    fn action_masks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u8>>> {
        Ok(PyArray1::from_slice(py, &self.state(py)?.batch().action_masks))
    }

    /// The latest mask of each env, from any call, as bytes: one row per env.
    fn masks_now<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u8>>> {
        Ok(PyArray1::from_slice(py, &self.state(py)?.envs.last().action_masks))
    }

    /// Declared infos as bytes of their layout, one row per answer.
    fn infos<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u8>>> {
        Ok(PyArray1::from_slice(py, &self.state(py)?.batch().infos))
    }

    /// Undeclared infos as JSON; an empty text if there are none.
    fn extras(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.state(py)?.batch().infos_extra.clone())
    }

    /// Which rows ended an episode and are reset already, and their final views.
    fn finals<'py>(&self, py: Python<'py>) -> PyResult<Finals<'py>> {
        let state = self.state(py)?;
        let batch = state.batch();
        Ok((
            PyArray1::from_slice(py, &batch.has_final),
            PyArray1::from_slice(py, &batch.final_observations),
            PyArray1::from_slice(py, &batch.final_infos),
            PyArray1::from_slice(py, &batch.final_action_masks),
        ))
    }

    /// As `extras`, for the final infos.
    fn final_extras(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.state(py)?.batch().final_infos_extra.clone())
    }

    /// Row, return and length of each episode that ended.
    fn episodes(&self, py: Python<'_>) -> PyResult<Vec<(usize, f64, u32)>> {
        let state = self.state(py)?;
        let ended = state.batch().episodes.iter().enumerate();
        Ok(ended.filter_map(|(row, end)| end.map(|end| (row, end.episode_return, end.length))).collect())
    }

    /// Row and `rollcage.Fault` of each reported fault.
    fn faults<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let state = self.state(py)?;
        let faults = PyList::empty(py);
        for (row, fault) in state.batch().faults.iter().enumerate() {
            if let Some(fault) = fault {
                faults.append((row, fault_object(py, fault)?))?;
            }
        }
        Ok(faults)
    }

    /// Which rows are resets.
    fn was_reset<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<bool>>> {
        Ok(PyArray1::from_slice(py, &self.state(py)?.batch().was_reset))
    }

    /// Which envs are masked after a fault.
    fn masked<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<bool>>> {
        Ok(PyArray1::from_slice(py, &self.state(py)?.batch().masked))
    }

    // ── More that an env can do ─────────────────────────────────────────────────────────────────────────────────

    /// Renders an env: height, width and the bytes R G B of each pixel; or a text.
    fn render<'py>(&self, py: Python<'py>, env: usize, mode: &str) -> PyResult<Bound<'py, PyAny>> {
        let mode = spaces::mode_of(mode).ok_or_else(|| {
            usage_error(
                py,
                "UsageError",
                &UsageError::new(format!("render mode `{mode}`: `rgb_array` and `ansi` are possible")),
            )
        })?;
        match self.work(py, |state| state.envs.render(env, mode))? {
            Frame::Rgb { width, height, pixels } => {
                (height, width, PyArray1::from_vec(py, pixels)).into_pyobject(py).map(Bound::into_any)
            }
            Frame::Text(text) => Ok(text.into_pyobject(py)?.into_any()),
        }
    }

    /// Calls the author's own method, with JSON in both directions.
    fn call(&self, py: Python<'_>, env: usize, method: &str, arguments: &str) -> PyResult<String> {
        let arguments = parse(arguments).map_err(|error| exception(py, &error.into()))?;
        self.work(py, |state| state.envs.call(env, method, &arguments).map(|value| value.to_string()))
    }

    /// Reads an attribute, as JSON.
    fn get_attribute(&self, py: Python<'_>, env: usize, name: &str) -> PyResult<String> {
        self.work(py, |state| state.envs.get_attribute(env, name).map(|value| value.to_string()))
    }

    /// Sets an attribute, as JSON.
    fn set_attribute(&self, py: Python<'_>, env: usize, name: &str, value: &str) -> PyResult<()> {
        let value = parse(value).map_err(|error| exception(py, &error.into()))?;
        self.work(py, |state| state.envs.set_attribute(env, name, &value))
    }

    /// Starts new random streams for everything that follows.
    fn reseed(&self, py: Python<'_>, env: usize, seed: u64) -> PyResult<()> {
        self.work(py, |state| state.envs.reseed(env, seed))
    }

    /// Sets options for an env's next reset, even if that is automatic.
    fn set_reset_options(&self, py: Python<'_>, env: usize, options: Option<&str>) -> PyResult<()> {
        let options = options.map(parse).transpose().map_err(|error| exception(py, &error.into()))?;
        self.work(py, |state| state.envs.set_reset_options(env, options.as_ref()))
    }

    /// Takes several steps of one env in one turn of its worker. Returns how many, observations and rewards of each,
    /// terminated, truncated.
    fn step_many<'py>(&self, py: Python<'py>, env: usize, actions: PyReadonlyArray1<'py, u8>) -> PyResult<Many<'py>> {
        let bytes = actions.as_slice()?.to_vec();
        let steps = self.work(py, |state| state.envs.step_many(env, &bytes))?;
        let (observations, rewards) =
            (PyArray1::from_vec(py, steps.observations), PyArray1::from_vec(py, steps.rewards));
        Ok((steps.taken, observations, rewards, steps.terminated, steps.truncated))
    }

    // ── Rollouts ────────────────────────────────────────────────────────────────────────────────────────────────

    /// Puts a policy beside the envs, from its file and its config as JSON.
    fn set_policy(&self, py: Python<'_>, file: PathBuf, config: &str) -> PyResult<()> {
        let policy = policy(&file, config).map_err(|error| exception(py, &error))?;
        self.work(py, |state| state.envs.set_policy(&policy))
    }

    /// Lets the envs play by themselves: `acting` is `policy`, `random` or `given`; then `given` has each env's actions.
    /// `amount` is of `steps` (of each env) or `episodes` (of all together). Returns the names of what the policy adds, and
    /// for each env a dict of its columns.
    fn rollout<'py>(
        &self,
        py: Python<'py>,
        acting: &str,
        given: Vec<PyReadonlyArray1<'py, u8>>,
        amount: &str,
        count: u64,
        returns_only: bool,
    ) -> PyResult<(Vec<String>, Bound<'py, PyList>)> {
        let given: Vec<Vec<u8>> =
            given.iter().map(|actions| Ok(actions.as_slice()?.to_vec())).collect::<PyResult<_>>()?;
        let amount = if amount == "steps" { Amount::Steps(count) } else { Amount::Episodes(count) };
        let keep = if returns_only { Keep::Returns } else { Keep::Columns };
        let played = self.work(py, |state| {
            let slices: Vec<&[u8]> = given.iter().map(Vec::as_slice).collect();
            let acting = match acting {
                "policy" => Acting::Policy,
                "random" => Acting::Random,
                _ => Acting::Given(&slices),
            };
            state.envs.rollout(acting, amount, keep)
        })?;
        let list = PyList::empty(py);
        for env in played.envs {
            let columns = PyDict::new(py);
            columns.set_item("steps", env.steps)?;
            columns.set_item("observations", PyArray1::from_vec(py, env.observations))?;
            columns.set_item("action_masks", PyArray1::from_vec(py, env.action_masks))?;
            columns.set_item("actions", PyArray1::from_vec(py, env.actions))?;
            columns.set_item("extras", PyArray1::from_vec(py, env.added))?;
            columns.set_item("rewards", PyArray1::from_vec(py, env.rewards))?;
            columns.set_item("terminations", PyArray1::from_vec(py, env.terminated))?;
            columns.set_item("truncations", PyArray1::from_vec(py, env.truncated))?;
            columns.set_item("final_observations", PyArray1::from_vec(py, env.final_observations))?;
            columns.set_item("last_observation", PyArray1::from_vec(py, env.last_observation))?;
            let returns = env.episodes.iter().map(|episode| episode.episode_return);
            columns.set_item("returns", PyArray1::from_iter(py, returns))?;
            let lengths = env.episodes.iter().map(|episode| i64::from(episode.length));
            columns.set_item("lengths", PyArray1::from_iter(py, lengths))?;
            let faults = PyList::empty(py);
            for fault in &env.faults {
                faults.append(fault_object(py, fault)?)?;
            }
            columns.set_item("faults", faults)?;
            list.append(columns)?;
        }
        Ok((played.adds, list))
    }

    // ── Copies ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// Makes live copies of an env, as envs of their own. With seeds, one for each copy, their random streams begin
    /// anew.
    fn branch(&self, py: Python<'_>, env: usize, count: usize, seeds: Option<Vec<u64>>) -> PyResult<Envs> {
        let copies = self.state(py)?.copies;
        let mut envs = self.work(py, |state| match &seeds {
            Some(seeds) => state.envs.branch_reseeded(env, seeds),
            None => state.envs.branch(env, count),
        })?;
        let raised: Arc<Mutex<Option<PyErr>>> = Arc::default();
        let keep = Arc::clone(&raised);
        envs.interrupt_when(move || signalled(&keep));
        Ok(Envs::of(envs, Vec::new(), copies, raised))
    }

    /// Turns envs into copies of another env: of these envs, or of `source`.
    fn write_back<'py>(
        &self,
        py: Python<'py>,
        source: Option<Bound<'py, Envs>>,
        env: usize,
        to: Vec<usize>,
    ) -> PyResult<Row<'py>> {
        match source.as_ref().map(Bound::get) {
            Some(source) if !std::ptr::eq(source, self) => {
                let mut source = source.state(py)?;
                let source: &mut State = &mut source;
                self.work(py, |state| state.envs.write_back_from(&mut source.envs, env, &to).map(|_| ()))?;
            }
            _ => self.work(py, |state| state.envs.write_back(env, &to).map(|_| ()))?,
        }
        self.row(py)
    }

    /// A snapshot of an env, as data.
    fn snapshot<'py>(&self, py: Python<'py>, env: usize) -> PyResult<Bound<'py, PyBytes>> {
        let snapshot = self.work(py, |state| state.envs.snapshot(env))?;
        Ok(PyBytes::new(py, &snapshot.to_bytes()))
    }

    /// Restores an env from a snapshot.
    fn restore<'py>(&self, py: Python<'py>, env: usize, snapshot: &[u8]) -> PyResult<Row<'py>> {
        let snapshot = Snapshot::from_bytes(snapshot).map_err(|error| exception(py, &error.into()))?;
        self.work(py, |state| state.envs.restore(env, &snapshot).map(|_| ()))?;
        self.row(py)
    }

    /// The most envs that one worker has.
    fn envs_per_worker(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.state(py)?.envs.envs_per_worker())
    }

    /// How the envs were started.
    fn started_by(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.state(py)?.envs.started_by(0).map(|start| start.to_string()))
    }

    /// Odd answers so far, by kind.
    fn oddities<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let oddities = self.state(py)?.envs.oddities();
        let as_dict = |oddity: &Oddity| {
            let dict = PyDict::new(py);
            dict.set_item("kind", oddity.kind.name())?;
            dict.set_item("times", oddity.times)?;
            dict.set_item("env", oddity.env)?;
            dict.set_item("episode", oddity.episode)?;
            dict.set_item("step", oddity.step)?;
            dict.set_item("example", rollcage::text::one_line(&oddity.example))?;
            Ok(dict)
        };
        oddities.iter().map(as_dict).collect()
    }

    /// Closes the recording, if there is one, and returns its receipt.
    fn finish_recording(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.work(py, |state| Ok(state.envs.finish_recording()?.map(|receipt| receipt.to_string())))
    }

    /// Ends every env. Idempotent. From another thread or a signal handler, it ends the call that is under way. If a
    /// signal handler raises meanwhile, the wait ends: the wait for the guests' goodbyes, or for that call, which then
    /// ends the envs itself. Warns if the recording could not be finished: nobody else would report it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.load(Acquire) || self.closing.swap(true, AcqRel) {
            return Ok(());
        }
        if let Some(mut state) = self.try_state() {
            let state: &mut State = &mut state;
            let warned = warn_unfinished(py, py.detach(|| self.end(state)));
            return self.raised().map_or(warned, Err);
        }
        if self.is_forked() {
            // A thread of the parent uses the envs, and the parent must end them.
            self.closed.store(true, Release);
            return Ok(());
        }
        self.interrupt.store(true, Release);
        if *self.user() == Some(std::thread::current().id()) {
            // This is a signal handler inside the call, which ends the envs when it returns.
            return Ok(());
        }
        let ended = py.detach(|| {
            loop {
                if let Some(mut state) = self.try_state() {
                    return Ok(self.end(&mut state));
                }
                // A store of its own: the other call reads its own store itself.
                let raised = Mutex::default();
                if signalled(&raised) {
                    return Err(raised.into_inner().unwrap_or_else(PoisonError::into_inner));
                }
                std::thread::sleep(LOOK);
            }
        });
        match ended {
            Ok(unfinished) => warn_unfinished(py, unfinished),
            Err(raised) => raised.map_or(Ok(()), Err),
        }
    }

    // ── Facts ───────────────────────────────────────────────────────────────────────────────────────────────────

    /// Spaces, info fields, limits, and the plugin's description.
    fn known<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let state = self.state(py)?;
        let known = spaces::known(py, &state.envs)?;
        let warnings = state.envs.prepared().warnings().iter().chain(&state.warnings);
        let warnings: Vec<String> = warnings.map(|warning| rollcage::text::one_line(warning)).collect();
        known.set_item("warnings", warnings)?;
        Ok(known)
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Acquire)
    }

    /// Process ids of the running workers, by env.
    fn pids(&self, py: Python<'_>) -> PyResult<Vec<Option<u32>>> {
        let state = self.state(py)?;
        Ok((0..state.envs.len()).map(|env| state.envs.pid(env)).collect())
    }

    /// How often each env was restarted.
    fn instances(&self, py: Python<'_>) -> PyResult<Vec<u32>> {
        let state = self.state(py)?;
        Ok((0..state.envs.len()).map(|env| state.envs.instance(env).unwrap_or(0)).collect())
    }

    /// The config of each env, with defaults filled in, as canonical JSON.
    fn configs(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let state = self.state(py)?;
        let config = |env| state.envs.config_of(env).map(|config| config.canonical.clone()).unwrap_or_default();
        Ok((0..state.envs.len()).map(config).collect())
    }

    /// The newest output of an env.
    fn log(&self, py: Python<'_>, env: usize) -> PyResult<String> {
        Ok(self.state(py)?.envs.log(env).map(|log| log.text()).unwrap_or_default())
    }

    /// The digest of the run so far, and of each env.
    fn digests(&self, py: Python<'_>) -> PyResult<(String, Vec<String>)> {
        let state = self.state(py)?;
        Ok((state.envs.digest().to_string(), state.envs.digests().iter().map(ToString::to_string).collect()))
    }

    /// The number of faults, and the first of them.
    fn fault_log<'py>(&self, py: Python<'py>) -> PyResult<(u64, Bound<'py, PyList>)> {
        let state = self.state(py)?;
        let first = PyList::empty(py);
        for fault in state.envs.faults().first() {
            first.append(fault_object(py, fault)?)?;
        }
        Ok((state.envs.faults().total(), first))
    }
}

impl Envs {
    fn of(envs: VecEnv, warnings: Vec<String>, copies: bool, raised: Arc<Mutex<Option<PyErr>>>) -> Envs {
        let interrupt = envs.interrupt_flag();
        let state = State { envs, warnings, actions: Vec::new(), received: None, copies };
        Envs {
            state: Arc::new(Mutex::new(state)),
            host: std::process::id(),
            user: Mutex::new(None),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            interrupt,
            raised,
        }
    }

    /// Runs a call of the host without the GIL. If a signal handler raised meanwhile, this raises the same exception.
    fn work<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut State) -> Result<T, Error> + Send) -> PyResult<T> {
        let mut state = self.state(py)?;
        if self.closed.load(Acquire) {
            return Err(closed(py));
        }
        *self.user() = Some(std::thread::current().id());
        state.received = None;
        let state: &mut State = &mut state;
        let done = py.detach(|| work(state));
        *self.user() = None;
        if self.closing.load(Acquire) && !self.closed.load(Acquire) {
            warn_unfinished(py, py.detach(|| self.end(state)))?;
        }
        done.map_err(|error| match error_of(py, &error, &self.raised) {
            _ if matches!(error, Error::Usage(_)) && state.envs.is_forked() => forked(py, &error),
            error => error,
        })
    }

    fn with_actions(
        &self,
        py: Python<'_>,
        actions: PyReadonlyArray1<'_, u8>,
        work: impl FnOnce(&mut VecEnv, &[u8]) -> Result<(), Error> + Send,
    ) -> PyResult<()> {
        let bytes = actions.as_slice()?;
        self.state(py)?.actions.splice(.., bytes.iter().copied());
        self.work(py, |state| work(&mut state.envs, &state.actions))
    }

    /// The plain columns of the last call.
    fn row<'py>(&self, py: Python<'py>) -> PyResult<Row<'py>> {
        let state = self.state(py)?;
        let batch = state.batch();
        let copied = state.copies || state.received.is_some();
        Ok((
            copied.then(|| PyArray1::from_slice(py, &batch.observations)),
            PyArray1::from_slice(py, &batch.rewards),
            PyArray1::from_slice(py, &batch.terminated),
            PyArray1::from_slice(py, &batch.truncated),
            events_of(batch),
        ))
    }

    /// Locks the state, for a short look or a call.
    fn state(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, State>> {
        self.try_state().ok_or_else(|| {
            if self.is_forked() {
                let error = UsageError::new(
                    "these envs belong to the process that this one was forked from, a thread of which is \
                     using them",
                )
                .hint("make envs of its own in the forked process; those of its parent go on there");
                return usage_error(py, "ForkedError", &error);
            }
            let error = UsageError::new(
                "the envs are in use: another thread's call is under way, or this is a signal's handler inside one",
            )
            .hint("one thread at a time uses a VectorEnv; make one for each thread");
            usage_error(py, "UsageError", &error)
        })
    }

    fn try_state(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether this is a fork's copy, in a process without the threads that use the envs.
    fn is_forked(&self) -> bool {
        self.host != std::process::id()
    }

    /// The exception of a signal handler that ran while a call waited.
    fn raised(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn user(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the envs. Returns why their recording could not be finished, if it could not.
    fn end(&self, state: &mut State) -> Option<String> {
        if self.closed.swap(true, AcqRel) {
            return None;
        }
        let folder = state.envs.recording().map(|folder| folder.display().to_string());
        state.envs.say_goodbye();
        let unfinished = state.envs.finish_recording().err();
        unfinished.map(|error| {
            let folder = folder.unwrap_or_default();
            format!("the recording `{folder}` is not complete, `close` could not finish it: {error}")
        })
    }
}

/// Warns in Python, at the line that called `close`, that a recording could not be finished.
fn warn_unfinished(py: Python<'_>, unfinished: Option<String>) -> PyResult<()> {
    let Some(text) = unfinished else { return Ok(()) };
    // The text of paths and system errors may have a NUL in it, which C strings cannot.
    let text = CString::new(text.replace('\0', "\\0")).unwrap_or_default();
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 2)
}

impl Drop for Envs {
    fn drop(&mut self) {
        if self.is_forked() && self.try_state().is_none() {
            // A thread of the parent was using the state at the fork, so it must not be dropped.
            std::mem::forget(Arc::clone(&self.state));
        }
    }
}

/// Runs Python's signal handlers. Returns whether a handler raised an exception, which is kept.
fn signalled(raised: &Mutex<Option<PyErr>>) -> bool {
    // None while the interpreter ends: then signals are handled no more.
    Python::try_attach(|py| py.check_signals().err()).flatten().is_some_and(|error| {
        *raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        true
    })
}

/// The exception for an error. For an interruption it is the signal handler's exception.
fn error_of(py: Python<'_>, error: &Error, raised: &Mutex<Option<PyErr>>) -> PyErr {
    let raised = raised.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (error, raised) {
        (Error::Interrupted, Some(raised)) => raised,
        _ => exception(py, error),
    }
}

fn closed(py: Python<'_>) -> PyErr {
    usage_error(py, "ClosedError", &UsageError::new("the envs are closed").hint("make new ones"))
}

fn forked(py: Python<'_>, error: &Error) -> PyErr {
    match error {
        Error::Usage(error) => usage_error(py, "ForkedError", error),
        other => exception(py, other),
    }
}

fn events_of(batch: &Batch) -> u32 {
    let any = |column: &[bool], event: u32| if column.contains(&true) { event } else { 0 };
    let is = |there: bool, event: u32| if there { event } else { 0 };
    any(&batch.has_final, events::FINAL)
        | any(&batch.masked, events::MASKED)
        | any(&batch.was_reset, events::RESET)
        | is(batch.faults.iter().any(Option::is_some), events::FAULT)
        | is(batch.episodes.iter().any(Option::is_some), events::EPISODE)
        | is(batch.infos_extra.iter().chain(&batch.final_infos_extra).any(|extra| !extra.is_empty()), events::EXTRA)
}
