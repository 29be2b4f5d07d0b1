//! Random but valid plugins: a random core module in the shape of the world, part of whose functions are replaced by the
//! honest env's, since a plugin that cannot even describe itself gets no further.
//!
//! A function of the world is honest; or random code runs first and the honest answer is returned; or the answer is random
//! too. What random code leaves in the globals becomes part of the observation, so that a digest is over what it computed.

use anyhow::{Context, Result};
use arbitrary::Unstructured;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ExportKind, ExportSection, Function, FunctionSection,
    MemArg, MemorySection, MemoryType, Module, RawSection,
};
use wasm_smith::{Config, InstructionKind, InstructionKinds};
use wasmparser::ValType::{self, F32, F64, I32, I64};
use wasmparser::{ExternalKind, FuncType, Parser, Payload};
use wit_component::dummy_module;
use wit_parser::{LiftLowerAbi, ManglingAndAbi};

use crate::honest::{ANSWERS, Answers, OBSERVATION_BYTES, PAGES, PREFIX, realloc};
use crate::{component, world};

/// The plugin of this seed.
pub(crate) fn plugin(seed: u64) -> Result<Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (module, patience) = random_module(&mut rng)?;
    component(behave(&module, patience, &mut rng)?)
}

/// Blocks and calls after which a function traps that would not end.
const PATIENCE: u32 = 1_000;

/// A random core module with the world's exports, and the global that counts [`PATIENCE`], if it has one.
fn random_module(rng: &mut StdRng) -> Result<(Vec<u8>, Option<u32>)> {
    let (resolve, world) = world()?;
    let shape = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    let config = Config {
        exports: Some(shape),
        // A component without a compiler's runtime has nobody to import from.
        max_imports: 0,
        max_instructions: 200,
        // Without control flow, code gets to its end.
        allowed_instructions: if rng.random() { InstructionKinds::all() } else { straight() },
        min_globals: 4,
        max_memory32_bytes: 64 << 20,
        // What a plugin may not use: see `cage/wasm.rs`.
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        // Tables of other than functions come with these.
        reference_types_enabled: false,
        threads_enabled: false,
        // A start function, and code that may trap, mostly do: such a plugin does not get far.
        allow_start_export: rng.random_ratio(1, 8),
        disallow_traps: rng.random_ratio(2, 3),
        max_table_elements: 1_000,
        ..Config::default()
    };
    let mut bytes = vec![0; rng.random_range(2_000..60_000)];
    rng.fill_bytes(&mut bytes);
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(&bytes))?;
    // Most trap instead of looping for ever.
    let patience = if rng.random_ratio(7, 8) { Some(module.ensure_termination(PATIENCE)?) } else { None };
    Ok((module.to_bytes(), patience))
}

/// Everything but control flow.
fn straight() -> InstructionKinds {
    use InstructionKind as Kind;
    let numbers = [Kind::NumericInt, Kind::Numeric, Kind::VectorInt, Kind::Vector];
    let places = [Kind::Reference, Kind::Parametric, Kind::Variable, Kind::Table, Kind::MemoryInt, Kind::Memory];
    InstructionKinds::new(&[&numbers[..], &places].concat())
}

/// What becomes of a function of the world.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// The honest env's.
    Honest,
    /// The random one, then the honest answer.
    Through,
    /// The random one.
    Random,
}

fn fate(export: &str, rng: &mut StdRng) -> Fate {
    // In a hundred: how many are honest, and how many of the others answer honestly.
    let (honest, through) = match export.rsplit_once('#').map_or(export, |(_, function)| function) {
        "describe" | "cabi_realloc" | "_initialize" => (95, 0),
        "create" => (70, 20),
        "reset" => (30, 60),
        "step" => (5, 80),
        _ if export.starts_with("cabi_post_") => (95, 0),
        _ => (20, 40),
    };
    match rng.random_range(0..100) {
        throw if throw < honest => Fate::Honest,
        throw if throw < honest + through => Fate::Through,
        _ => Fate::Random,
    }
}

/// Replaces functions, and puts the honest answers into the memory.
fn behave(module: &[u8], patience: Option<u32>, rng: &mut StdRng) -> Result<Vec<u8>> {
    let answers = Answers::new("random");
    let mut types = Vec::new();
    let mut functions = FunctionSection::new();
    let mut function_types = Vec::new();
    let mut code = CodeSection::new();
    let mut data = DataSection::new();
    let mut globals = Vec::new();
    let mut memories = Vec::new();
    let mut exports = Vec::new();
    // Sections in the module's order; those that change are filled in afterwards.
    let mut sections: Vec<(u8, &[u8])> = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        match &payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    types.extend(group?.into_types().map(|ty| ty.unwrap_func().clone()));
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section.clone() {
                    function_types.push(ty?);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    memories.push(memory?);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section.clone() {
                    globals.push(global?.ty.content_type);
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    exports.push(export?);
                }
            }
            Payload::CodeSectionEntry(body) => drop(code.raw(body.as_bytes())),
            Payload::DataSection(section) => {
                for segment in section.clone() {
                    data.raw(&module[segment?.range]);
                }
            }
            _ => {}
        }
        if let Some((id, range)) = payload.as_section() {
            sections.push((id, &module[range]));
        }
    }
    for ty in &function_types {
        functions.function(*ty);
    }

    // There may be other memories.
    let memory = exports.iter().find(|export| export.kind == ExternalKind::Memory);
    let answers_in = memory.context("a memory that is exported")?.index;
    let mut new_exports = ExportSection::new();
    for export in &exports {
        let kind = match export.kind {
            ExternalKind::Func => ExportKind::Func,
            _ => ExportKind::Memory,
        };
        let mut index = export.index;
        if kind == ExportKind::Func {
            let fate = fate(export.name, rng);
            if fate != Fate::Random {
                let ty = function_types[index as usize];
                let called = (fate == Fate::Through).then_some(index);
                index = functions.len();
                functions.function(ty);
                let within = Within { globals: &globals, patience, memory: answers_in };
                code.function(&wrapper(export.name, called, &types[ty as usize], &within, &answers));
            }
        }
        new_exports.export(export.name, kind, index);
    }
    // The last segment wins where two are of the same place.
    data.active(answers_in, &ConstExpr::i32_const(ANSWERS.cast_signed()), answers.bytes.iter().copied());

    let mut new_memories = MemorySection::new();
    for (index, memory) in (0..).zip(memories) {
        let (minimum, maximum) = if index == answers_in { (PAGES, None) } else { (memory.initial, memory.maximum) };
        new_memories.memory(MemoryType { minimum, maximum, memory64: false, shared: false, page_size_log2: None });
    }
    let mut made = Module::new();
    for (id, bytes) in &sections {
        match *id {
            FUNCTIONS => made.section(&functions),
            MEMORIES => made.section(&new_memories),
            EXPORTS => made.section(&new_exports),
            DATA_COUNT => made.section(&DataCountSection { count: data.len() }),
            CODE => made.section(&code),
            DATA => continue,
            id => made.section(&RawSection { id, data: bytes }),
        };
    }
    made.section(&data);
    Ok(made.finish())
}

const FUNCTIONS: u8 = 3;
const MEMORIES: u8 = 5;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;
const DATA: u8 = 11;
const DATA_COUNT: u8 = 12;

/// What a function finds in its module.
struct Within<'a> {
    globals: &'a [ValType],
    patience: Option<u32>,
    /// The memory that the answers lie in.
    memory: u32,
}

/// The honest function of this name, after a call of the random one if there is one to call.
fn wrapper(export: &str, called: Option<u32>, ty: &FuncType, module: &Within<'_>, answers: &Answers) -> Function {
    if export == "cabi_realloc" {
        return realloc();
    }
    let mut body = Function::new([]);
    let mut code = body.instructions();
    if let Some(function) = called {
        if let Some(global) = module.patience {
            code.i32_const(PATIENCE.cast_signed()).global_set(global);
        }
        for (parameter, _) in (0..).zip(ty.params()) {
            code.local_get(parameter);
        }
        code.call(function);
        for _ in ty.results() {
            code.drop();
        }
        let here = MemArg { offset: 0, align: 0, memory_index: module.memory };
        // Number by number, as many as there is room for.
        let slots = (answers.observation..answers.observation + OBSERVATION_BYTES).step_by(8);
        let numbers = (0..).zip(module.globals).filter(|(_, ty)| matches!(ty, I32 | I64 | F32 | F64));
        for (slot, (global, ty)) in slots.zip(numbers) {
            code.i32_const(slot.cast_signed()).global_get(global);
            match ty {
                I32 => code.i32_store(here),
                I64 => code.i64_store(here),
                F32 => code.f32_store(here),
                _ => code.f64_store(here),
            };
        }
    }
    if let ([ValType::I32], Some(function)) = (ty.results(), export.strip_prefix(PREFIX)) {
        code.i32_const(answers.of(function).cast_signed());
    }
    code.end();
    body
}
