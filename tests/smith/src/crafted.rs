//! Plugins against one limit each, which no compiler makes. Names are those of the table of hostile guests.

use anyhow::Result;
use wasm_encoder::{
    BlockType, Component, ComponentSection, ComponentType, ComponentTypeSection, ComponentValType, CustomSection,
    Function, HeapType, InstructionSink, NestedComponentSection, PrimitiveValType, ValType,
};

use crate::component;
use crate::honest::Env;

type Make = fn() -> Result<Vec<u8>>;

/// Name and maker of each.
pub(crate) const ALL: &[(&str, Make)] = &[
    ("honest", || component(Env::default().module())),
    // Elements of a table are host memory that the limit on linear memory does not see.
    ("table-bomb", || {
        step("table-bomb", Some(0), |code| {
            fill_table(code);
            code.unreachable();
        })
    }),
    ("table-hoard", || step("table-hoard", Some(0), fill_table)),
    ("table-wide", || component(Env { table: Some(1 << 24), ..Env::default() }.module())),
    ("memory-wide", || component(Env { pages: 1 << 16, ..Env::default() }.module())),
    // A start function runs while the component is instantiated, before the host has called anything; constructors of C++
    // globals run there.
    ("start-loop", || {
        start(|code| {
            code.loop_(BlockType::Empty).br(0).end();
        })
    }),
    ("start-trap", || {
        start(|code| {
            code.unreachable();
        })
    }),
    ("start-memory", || {
        start(|code| {
            fill_memory(code);
            code.unreachable();
        })
    }),
    // Types that are short to write and long to follow.
    ("types-deep", || with_types(|types| nested_lists(types, 10_000))),
    ("types-nested", || with_section(&nested_components(1_000))),
    ("types-abyss", || with_section(&nested_components(20_000))),
    ("types-double", || {
        with_types(|types| {
            types.defined_type().primitive(PrimitiveValType::U8);
            for inner in 0..60 {
                types.defined_type().tuple([ComponentValType::Type(inner); 2]);
            }
        })
    }),
    ("types-wide", || {
        with_types(|types| {
            let names: Vec<String> = (0..200_000).map(|number| format!("f{number}")).collect();
            let byte = ComponentValType::Primitive(PrimitiveValType::U8);
            types.defined_type().record(names.iter().map(|name| (name.as_str(), byte)));
        })
    }),
    ("components-deep", || {
        let mut inner = Component::new();
        for _ in 0..1_000 {
            let mut outer = Component::new();
            outer.section(&NestedComponentSection(&inner));
            inner = outer;
        }
        with_section(&NestedComponentSection(&inner))
    }),
    // Code that is short to write and long to compile.
    ("blocks-deep", || {
        let blocks = body(|code| {
            for _ in 0..200_000 {
                code.block(BlockType::Empty);
            }
            for _ in 0..200_000 {
                code.end();
            }
        });
        component(Env { bystanders: vec![blocks], ..Env::default() }.module())
    }),
    ("code-slow", || component(Env { bystanders: vec![slow_to_compile()], ..Env::default() }.module())),
];

/// A plugin of 200 MB, nearly all of it a section that nobody reads.
pub(crate) fn huge() -> Result<Vec<u8>> {
    let mut plugin = component(Env::default().module())?;
    let data: Vec<u8> = (0..200_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    CustomSection { name: "ballast".into(), data: data.into() }.append_to_component(&mut plugin);
    Ok(plugin)
}

fn body(write: impl FnOnce(&mut InstructionSink<'_>)) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    write(&mut code);
    code.end();
    function
}

/// An honest env whose fourth step does this first.
fn step(name: &'static str, table: Option<u64>, write: impl FnOnce(&mut InstructionSink<'_>)) -> Result<Vec<u8>> {
    component(Env { name, step: Some(body(write)), table, ..Env::default() }.module())
}

/// A start function that does this.
fn start(write: impl FnOnce(&mut InstructionSink<'_>)) -> Result<Vec<u8>> {
    component(Env { start: Some(body(write)), ..Env::default() }.module())
}

/// Half a megabyte at a time, until it is refused.
fn fill_table(code: &mut InstructionSink<'_>) {
    code.loop_(BlockType::Empty).ref_null(HeapType::FUNC).i32_const(1 << 16).table_grow(0);
    code.i32_const(-1).i32_ne().br_if(0).end();
}

fn fill_memory(code: &mut InstructionSink<'_>) {
    code.loop_(BlockType::Empty).i32_const(16).memory_grow(0).i32_const(-1).i32_ne().br_if(0).end();
}

/// One function, each of whose blocks may follow any other and uses every local: what an allocator of registers has to
/// think about grows with the product.
fn slow_to_compile() -> Function {
    const LOCALS: u32 = 400;
    const BLOCKS: u32 = 400;
    let mut function = Function::new([(LOCALS, ValType::I32)]);
    let mut code = function.instructions();
    code.loop_(BlockType::Empty);
    for _ in 0..BLOCKS {
        code.block(BlockType::Empty);
    }
    code.local_get(0).br_table(0..BLOCKS, BLOCKS);
    for block in 0..BLOCKS {
        code.end();
        for local in 0..LOCALS {
            code.local_get(local).local_get((local + block + 1) % LOCALS).i32_add().local_set(local);
        }
        code.local_get(block % LOCALS).br_table(0..BLOCKS - block, BLOCKS - block - 1);
    }
    code.end().end();
    function
}

/// The honest plugin with types that nobody uses.
fn with_types(write: impl FnOnce(&mut ComponentTypeSection)) -> Result<Vec<u8>> {
    let mut types = ComponentTypeSection::new();
    write(&mut types);
    with_section(&types)
}

/// The honest plugin, which has types of its own, and a component inside it with this section.
fn with_section(section: &impl ComponentSection) -> Result<Vec<u8>> {
    let mut inner = Component::new();
    inner.section(section);
    let mut plugin = component(Env::default().module())?;
    NestedComponentSection(&inner).append_to_component(&mut plugin);
    Ok(plugin)
}

fn nested_lists(types: &mut ComponentTypeSection, depth: u32) {
    types.defined_type().primitive(PrimitiveValType::U8);
    for inner in 0..depth {
        types.defined_type().list(ComponentValType::Type(inner));
    }
}

/// A type of a component that has a type of a component that has …
fn nested_components(depth: u32) -> ComponentTypeSection {
    let mut inner = ComponentType::new();
    for _ in 0..depth {
        let mut outer = ComponentType::new();
        outer.ty().component(&inner);
        inner = outer;
    }
    let mut types = ComponentTypeSection::new();
    types.component(&inner);
    types
}
