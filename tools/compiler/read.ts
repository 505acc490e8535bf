// Wasm bytes and source map -> Module: the front door of the compiler.

import type { BuildContext } from "./build-ssa.ts";
import { buildFunc, canonicalType, FLOATS, Unsupported } from "./build-ssa.ts";
import { CompileError, type Diagnostic, diagnosticAt, refuse } from "./diagnostic.ts";
import {
  type Func,
  type GlobalVar,
  type ImportedFunc,
  type Loc,
  type Module,
  type Signature,
  TrapKind,
  type Type,
} from "./ir.ts";
import { SourcePlaces } from "./sourcemap.ts";
import { dropUnreachable, newBlock, widthOf } from "./ssa.ts";
import {
  type ConstExpr,
  decodeWasm,
  ExternalKind,
  type RawGlobal,
  type RawModule,
  type RawType,
  ValType,
} from "./wasm.ts";

export interface ReadOptions {
  /** Hosted target: a function with floats gets a trap for its body instead of being refused. */
  hosted: boolean;
  /** Also for every other unsupported feature. For running test suites. */
  trapUnsupported?: boolean;
  /** Values of imported immutable globals, where they are known. */
  importedGlobals?: (module: string, name: string) => bigint | undefined;
}

/** Reads a module. Throws CompileError with a diagnostic for each function that is outside the subset. */
export function readModule(bytes: Uint8Array, map: string | undefined, options: ReadOptions): Module {
  const raw = decodeWasm(bytes);
  const places = new SourcePlaces(map);
  const module = readDeclarations(raw, places, options);
  const failures: { func: Func; failure: Unsupported }[] = [];
  const context = { raw, module, places };
  const exported = exportsOf(raw, ExternalKind.FUNC);
  const inTable = new Set(module.table);
  raw.funcs.forEach((type, i) => {
    const index = raw.importedFuncs.length + i;
    const func = declareFunc(raw, index, type, exported.get(index) ?? [], inTable.has(index));
    module.funcs.push(func);
    const failure = buildOrFail(context, func, type, i);
    if (failure === null) return;
    const trapped = options.trapUnsupported || (options.hosted && failure.feature === FLOATS);
    if (trapped) replaceByTrap(func, failure);
    else failures.push({ func, failure });
  });
  if (failures.length > 0) throw new CompileError(failures.flatMap((f) => describeFailure(module, f.func, f.failure)));
  return module;
}

function buildOrFail(context: BuildContext, func: Func, type: number, i: number): Unsupported | null {
  try {
    func.params = scalarTypes(context.raw.types[type]?.params) ?? [];
    func.results = scalarTypes(context.raw.types[type]?.results) ?? [];
    requireScalar(context, type, i);
    buildFunc(
      context,
      func,
      context.raw.types[type] as RawType,
      context.raw.bodies[i] as NonNullable<RawModule["bodies"][0]>,
    );
    dropUnreachable(func);
    return null;
  } catch (error) {
    if (error instanceof Unsupported) return error;
    throw error;
  }
}

/** A fault in AssemblyScript's library is reported where the program's own code asks for it. */
function describeFailure(module: Module, func: Func, { feature, loc }: Unsupported): Diagnostic[] {
  const message = `${feature} is not supported (in ${func.name})`;
  if (!isLibrary(module, loc)) return [diagnosticAt(module.files, loc, message)];
  const sites = callSites(module, func);
  return sites.length === 0
    ? [diagnosticAt(module.files, loc, message)]
    : sites.map((site) => diagnosticAt(module.files, site, message));
}

function isLibrary(module: Module, loc: Loc | null): boolean {
  return loc === null || (module.files[loc.file] ?? "").startsWith("~lib/");
}

/** Calls outside of the library that lead to `func`, directly or through the library. */
function callSites(module: Module, func: Func): Loc[] {
  const sites = new Set<Loc>();
  const seen = new Set([func]);
  for (const callee of seen) {
    for (const caller of module.funcs) {
      for (const call of caller.blocks.flatMap((block) => block.body)) {
        if (call.op !== "call" || call.index !== callee.index) continue;
        if (call.loc !== null && !isLibrary(module, call.loc)) sites.add(call.loc);
        else seen.add(caller);
      }
    }
  }
  return [...sites];
}

function requireScalar(context: BuildContext, type: number, i: number): void {
  const { params, results } = context.raw.types[type] as RawType;
  if (scalarTypes(params) !== null && scalarTypes(results) !== null) return;
  const entry = context.raw.bodies[i]?.entry ?? 0;
  const odd = [...params, ...results].find((t) => scalarType(t) === null);
  const feature = odd === ValType.F32 || odd === ValType.F64 ? FLOATS : "SIMD or a reference type";
  const start = context.raw.bodies[i]?.start ?? 0;
  throw new Unsupported(feature, context.places.at(entry, entry) ?? context.places.at(start, entry));
}

/** The function stays callable by index; who calls it traps. */
function replaceByTrap(func: Func, failure: Unsupported): void {
  func.unsupported = failure.feature;
  const block = newBlock(func);
  block.terminator = { kind: "trap", trap: TrapKind.UNSUPPORTED, loc: failure.loc };
  func.blocks = [block];
}

function declareFunc(raw: RawModule, index: number, type: number, exports: string[], inTable: boolean): Func {
  return {
    index,
    name: raw.functionNames.get(index) ?? exports[0] ?? `func${index}`,
    exports,
    params: [],
    results: [],
    blocks: [],
    nextId: 0,
    loc: null,
    inTable,
    type: canonicalType(raw, type),
  };
}

// ---- Declarations

function readDeclarations(raw: RawModule, places: SourcePlaces, options: ReadOptions): Module {
  if (raw.memories.length > 1) refuse("more than one memory is outside the accepted subset");
  if (!options.trapUnsupported) requireOneTable(raw);
  const exportedGlobals = exportsOf(raw, ExternalKind.GLOBAL);
  const globals = raw.globals.map((g, i) => readGlobal(raw, g, i, exportedGlobals.get(i) ?? [], options));
  const offset = (e: ConstExpr) => Number(BigInt.asUintN(32, constValue(e, globals)));
  const memory = raw.memories[0];
  return {
    files: places.files,
    imports: readImports(raw),
    funcs: [],
    types: raw.types.map(readSignature),
    globals,
    table: readTable(raw, offset),
    tableExports: exportsOf(raw, ExternalKind.TABLE).get(0) ?? [],
    tableImport: raw.tables[0]?.import,
    data: raw.data.map((d) => ({ address: d.offset === null ? null : offset(d.offset), bytes: d.bytes })),
    memoryPages: memory === undefined ? null : { initial: memory.initial, maximum: memory.maximum ?? memory.initial },
    memoryExports: exportsOf(raw, ExternalKind.MEMORY).get(0) ?? [],
    memoryImport: memory?.import,
    start: raw.start,
  };
}

function exportsOf(raw: RawModule, kind: ExternalKind): Map<number, string[]> {
  const byIndex = new Map<number, string[]>();
  for (const e of raw.exports) {
    if (e.kind === kind) byIndex.set(e.index, [...(byIndex.get(e.index) ?? []), e.name]);
  }
  return byIndex;
}

function readImports(raw: RawModule): ImportedFunc[] {
  const exported = exportsOf(raw, ExternalKind.FUNC);
  return raw.importedFuncs.map(({ name, type }, index) => ({
    index,
    module: name.module,
    name: name.name,
    signature: readSignature(raw.types[type] as RawType),
    type: canonicalType(raw, type),
    exports: exported.get(index) ?? [],
  }));
}

function scalarType(type: number): Type | null {
  return type === ValType.I32 ? "i32" : type === ValType.I64 ? "i64" : null;
}

/** null if one of them is no integer. */
function scalarTypes(types: number[] | undefined): Type[] | null {
  const scalars = (types ?? []).map(scalarType);
  return scalars.includes(null) ? null : (scalars as Type[]);
}

function readSignature(type: RawType): Signature {
  const params = scalarTypes(type.params);
  const results = scalarTypes(type.results);
  if (params === null || results === null) return { params: [], results: [], unsupported: true };
  return { params, results };
}

function constValue(e: ConstExpr, globals: GlobalVar[]): bigint {
  return e.kind === "const" ? e.value : (globals[e.index]?.init ?? refuse("a constant expression names no global"));
}

function readGlobal(raw: RawModule, g: RawGlobal, index: number, exports: string[], options: ReadOptions): GlobalVar {
  const type = scalarType(g.type) ?? (g.type === ValType.F64 ? "i64" : "i32");
  const known = g.import && !g.mutable ? options.importedGlobals?.(g.import.module, g.import.name) : undefined;
  const own = known ?? (g.init.kind === "const" ? g.init.value : initFromImport(raw, g.init.index, options));
  return {
    index,
    name: raw.globalNames.get(index) ?? exports[0] ?? `global${index}`,
    type,
    mutable: g.mutable,
    init: BigInt.asUintN(widthOf(type), own),
    exports,
    import: known === undefined ? g.import : undefined,
  };
}

/** A global that starts with the value of an imported one, which must then be known. */
function initFromImport(raw: RawModule, index: number, options: ReadOptions): bigint {
  const source = raw.globals[index];
  if (source?.import === undefined) return source?.init.kind === "const" ? source.init.value : 0n;
  const { module, name } = source.import;
  return (
    options.importedGlobals?.(module, name) ?? refuse(`the value of the imported global ${module}.${name} is not known`)
  );
}

function requireOneTable(raw: RawModule): void {
  if (raw.tables.length > 1) refuse("more than one table is outside the accepted subset");
  const odd = raw.tables.some((table) => table.elementType !== ValType.FUNCREF);
  if (odd) refuse("a table of anything but functions is outside the accepted subset");
}

function readTable(raw: RawModule, offset: (e: ConstExpr) => number): (number | null)[] {
  const table: (number | null)[] = new Array(raw.tables[0]?.initial ?? 0).fill(null);
  for (const element of raw.elements) {
    if (element.offset === null || element.table !== 0) continue;
    const start = offset(element.offset);
    const grows = raw.tables[0]?.import !== undefined; // an imported table may be larger than declared
    if (!grows && start + element.functions.length > table.length)
      refuse("an element segment does not fit into the table");
    while (table.length < start + element.functions.length) table.push(null);
    element.functions.forEach((f, i) => {
      table[start + i] = f;
    });
  }
  return table;
}
