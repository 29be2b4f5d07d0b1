//! The smallest honest env, as a core module without a compiler: every answer lies ready in memory, in the canonical ABI's
//! layout, and a function returns where. What misbehaves is made from it, function by function.
//!
//! It counts: the observation is a Box of 64 uint8, of which the first eight are the steps since the reset. An episode
//! never ends. The action space is Discrete(2). The config has one key, `at`: 3, or -1 for never.

use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function, FunctionSection, GlobalSection,
    GlobalType, MemArg, MemorySection, MemoryType, Module, StartSection, TableSection, TableType, TypeSection, ValType,
};

/// Where the answers lie. What is below is left alone.
pub(crate) const ANSWERS: u32 = 1024;

/// Where [`realloc`] puts whatever the host hands over: one text or action at a time.
pub(crate) const HANDED_OVER: u32 = 1 << 16;

/// Pages: one for the answers, three for what is handed over.
pub(crate) const PAGES: u64 = 4;

/// Bytes of an observation.
pub(crate) const OBSERVATION_BYTES: u32 = 64;

/// Functions of the world, parameters flattened; each returns the address of its answer but `close`.
pub(crate) const FUNCTIONS: [(&str, &[ValType]); 11] = {
    use ValType::{I32, I64};
    [
        ("describe", &[]),
        ("create", &[I32, I32]),
        ("reset", &[I32, I64, I32, I32, I32]),
        ("step", &[I32, I32]),
        ("step-many", &[I32, I32, I32]),
        ("render", &[I32]),
        ("reseed", &[I64]),
        ("call", &[I32, I32, I32, I32]),
        ("get-attribute", &[I32, I32]),
        ("set-attribute", &[I32, I32, I32, I32]),
        ("close", &[]),
    ]
};

/// What the core export of a function of the world begins with.
pub(crate) const PREFIX: &str = "rollcage:env/environment@0.1.0#";

const SCHEMA: &str = r#"{"type":"object","properties":{"at":{"type":"integer","enum":[-1,3],"default":3}},"additionalProperties":false}"#;

/// Every answer, laid out from [`ANSWERS`] on.
pub(crate) struct Answers {
    pub(crate) bytes: Vec<u8>,
    pub(crate) description: u32,
    pub(crate) spec: u32,
    pub(crate) view: u32,
    pub(crate) transition: u32,
    pub(crate) transitions: u32,
    /// The error `unsupported`, which has one layout in all the other calls.
    pub(crate) unsupported: u32,
    pub(crate) observation: u32,
}

impl Answers {
    pub(crate) fn new(name: &str) -> Answers {
        let mut heap = Heap(Vec::new());
        let name = heap.text(name);
        let version = heap.text("0.1.0");
        let summary = heap.text("Made without a compiler");
        let schema = heap.text(SCHEMA);
        let observation = heap.put(8, &[0; OBSERVATION_BYTES as usize]);
        let why = heap.text("no such thing");

        // record description
        let words = [name.0, name.1, version.0, version.1, summary.0, summary.1, schema.0, schema.1, 4, 0, 0, 4, 0];
        let description = heap.words(&words);

        // record spec: the two spaces have one node each, of 40 bytes.
        let (shape, low, high) = (heap.words(&[OBSERVATION_BYTES]), heap.put(1, &[0]), heap.put(1, &[255]));
        let uint8 = 5;
        let observation_space = heap.words(&[0, 0, uint8, shape, 1, low, 1, high, 1, 0]);
        let discrete = 1;
        let action_space = heap.words(&[discrete, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        let ok = 0;
        // Two bytes of one word, both 0: not masked, and out of bounds is refused.
        let unmasked = 0;
        let none = 0;
        let spec =
            heap.words(&[ok, 0, observation_space, 1, action_space, 1, unmasked, 4, 0, none, 0, 0, none, 0, 0, 0]);

        // record view, and record transition with reward 1
        let seen = [observation, OBSERVATION_BYTES, 4, 0, 4, 0, 4, 0];
        let view = heap.words(&[&[ok], &seen[..]].concat());
        let one = 1.0_f64.to_bits();
        let reward = [one as u32, (one >> 32) as u32];
        let transition = heap.words(&[&[ok, 0], &seen[..], &reward, &[0, 0]].concat());

        // record transitions: none taken, because of the error `failed`; then results with the error `unsupported`
        let (some, failed, unsupported) = (1, 5, 3);
        let transitions = heap.words(&[0, 4, 0, 4, 0, 4, 0, 4, 0, 8, 0, 0, some, failed, why.0, why.1]);
        let unsupported = heap.words(&[1, unsupported, why.0, why.1]);
        Answers { bytes: heap.0, description, spec, view, transition, transitions, unsupported, observation }
    }

    /// The address of the answer of a function that has one.
    pub(crate) fn of(&self, function: &str) -> u32 {
        match function {
            "describe" => self.description,
            "create" => self.spec,
            "reset" => self.view,
            "step" => self.transition,
            "step-many" => self.transitions,
            _ => self.unsupported,
        }
    }
}

struct Heap(Vec<u8>);

impl Heap {
    fn put(&mut self, alignment: usize, bytes: &[u8]) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(alignment), 0);
        let address = ANSWERS + u32::try_from(self.0.len()).expect("some hundred bytes");
        self.0.extend(bytes);
        address
    }

    /// Address and length.
    fn text(&mut self, text: &str) -> (u32, u32) {
        (self.put(1, text.as_bytes()), u32::try_from(text.len()).expect("short"))
    }

    fn words(&mut self, words: &[u32]) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(8, &bytes)
    }
}

/// The step to misbehave in, as the other hostile guests do.
const AT: i64 = 3;

/// Globals of [`Env`]: whether the mischief is armed, and steps since the reset.
pub(crate) const ARMED: u32 = 0;
pub(crate) const STEPS: u32 = 1;

/// The honest env with something added.
pub(crate) struct Env {
    /// Its name, which is a row's in the table of hostile guests.
    pub(crate) name: &'static str,
    /// What the fourth step of an episode does first, unless `at` is -1.
    pub(crate) step: Option<Function>,
    /// The start function, which runs while the component is instantiated.
    pub(crate) start: Option<Function>,
    /// A table of so many elements.
    pub(crate) table: Option<u64>,
    /// Pages of its memory.
    pub(crate) pages: u64,
    /// Functions of nobody, never called.
    pub(crate) bystanders: Vec<Function>,
}

impl Default for Env {
    fn default() -> Env {
        Env { name: "honest", step: None, start: None, table: None, pages: PAGES, bystanders: Vec::new() }
    }
}

/// Functions beside those of the world, and their types, which have the same numbers; there may be no mischief.
const REALLOC: u32 = 11;
const MISCHIEF: u32 = 12;
const NOTHING: u32 = 12;

const HERE: MemArg = MemArg { offset: 0, align: 0, memory_index: 0 };

impl Env {
    /// Its core module.
    pub(crate) fn module(self) -> Vec<u8> {
        let answers = Answers::new(self.name);
        let mut types = TypeSection::new();
        let mut functions = FunctionSection::new();
        let mut exports = ExportSection::new();
        let mut code = CodeSection::new();
        for (index, (name, parameters)) in (0..).zip(FUNCTIONS) {
            let results: &[ValType] = if name == "close" { &[] } else { &[ValType::I32] };
            types.ty().function(parameters.iter().copied(), results.iter().copied());
            functions.function(index);
            exports.export(&format!("{PREFIX}{name}"), ExportKind::Func, index);
            code.function(&self.body(name, &answers));
        }
        types.ty().function([ValType::I32; 4], [ValType::I32]);
        types.ty().function([], []);
        functions.function(REALLOC);
        exports.export("cabi_realloc", ExportKind::Func, REALLOC).export("memory", ExportKind::Memory, 0);
        code.function(&realloc());
        let mut add = |function: &Function| {
            functions.function(NOTHING);
            code.function(function);
            code.len() - 1
        };
        // `step` calls it by this index.
        assert!(self.step.as_ref().is_none_or(|function| add(function) == MISCHIEF), "it comes first");
        let start = self.start.as_ref().map(&mut add);
        for function in &self.bystanders {
            add(function);
        }

        let mut tables = TableSection::new();
        if let Some(minimum) = self.table {
            let element_type = wasm_encoder::RefType::FUNCREF;
            tables.table(TableType { element_type, table64: false, minimum, maximum: None, shared: false });
        }
        let mut memories = MemorySection::new();
        let (minimum, maximum) = (self.pages, None);
        memories.memory(MemoryType { minimum, maximum, memory64: false, shared: false, page_size_log2: None });
        let mut globals = GlobalSection::new();
        let variable = |val_type| GlobalType { val_type, mutable: true, shared: false };
        globals.global(variable(ValType::I32), &ConstExpr::i32_const(0));
        globals.global(variable(ValType::I64), &ConstExpr::i64_const(0));
        let mut data = DataSection::new();
        data.active(0, &ConstExpr::i32_const(ANSWERS as i32), answers.bytes);

        let mut module = Module::new();
        module.section(&types).section(&functions).section(&tables).section(&memories).section(&globals);
        module.section(&exports);
        if let Some(function_index) = start {
            module.section(&StartSection { function_index });
        }
        module.section(&code).section(&data);
        module.finish()
    }

    fn body(&self, name: &str, answers: &Answers) -> Function {
        let answer = answers.of(name) as i32;
        let mut body = Function::new([]);
        let mut code = body.instructions();
        match name {
            "close" => {
                code.end();
                return body;
            }
            // The config is `{"at":N}`: armed unless N begins with a minus.
            "create" => {
                code.local_get(0).i32_load8_u(MemArg { offset: 6, ..HERE }).i32_const(b'-'.into()).i32_ne();
                code.global_set(ARMED);
            }
            "reset" => {
                code.i64_const(0).global_set(STEPS);
                code.i32_const(answers.observation as i32).i64_const(0).i64_store(HERE);
            }
            "step" => {
                if self.step.is_some() {
                    code.global_get(ARMED).global_get(STEPS).i64_const(AT).i64_eq().i32_and();
                    code.if_(wasm_encoder::BlockType::Empty).call(MISCHIEF).end();
                }
                code.global_get(STEPS).i64_const(1).i64_add().global_set(STEPS);
                code.i32_const(answers.observation as i32).global_get(STEPS).i64_store(HERE);
            }
            _ => {}
        }
        code.i32_const(answer).end();
        body
    }
}

/// Hands out one place, again and again.
pub(crate) fn realloc() -> Function {
    let mut body = Function::new([]);
    body.instructions().i32_const(HANDED_OVER as i32).end();
    body
}
