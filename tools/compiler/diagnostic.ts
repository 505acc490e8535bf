// What the compiler says when it refuses a program: one clear line each, with the TypeScript place.

import type { Loc } from "./ir.ts";

export interface Diagnostic {
  message: string;
  /** Place in the source, where one is known. */
  file?: string;
  line?: number;
  column?: number;
}

/** `kernel/x.ts:12:7: error: text`, or without a place `error: text`. */
export function formatDiagnostic(d: Diagnostic, severity = "error"): string {
  const place = d.file === undefined ? "" : `${d.file}:${d.line}:${d.column}: `;
  return `${place}${severity}: ${d.message}`;
}

/** A diagnostic at a location of the module's source files. */
export function diagnosticAt(files: string[], loc: Loc | null, message: string): Diagnostic {
  if (loc === null) return { message };
  return { message, file: files[loc.file], line: loc.line, column: loc.column };
}

/** Thrown when the input is refused. */
export class CompileError extends Error {
  readonly diagnostics: Diagnostic[];

  constructor(diagnostics: Diagnostic[]) {
    super(diagnostics.map((d) => formatDiagnostic(d)).join("\n"));
    this.name = "CompileError";
    this.diagnostics = diagnostics;
  }
}

export function refuse(message: string): never {
  throw new CompileError([{ message }]);
}
