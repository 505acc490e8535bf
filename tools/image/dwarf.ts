/**
 * Reads the line-number programs of .debug_line: which source line each address belongs to.
 * DWARF Debugging Information Format, versions 2 to 4, "Line Number Information".
 */

export interface LineRow {
  address: bigint;
  file: string;
  line: number;
  /** The first address past the sequence: belongs to no line. */
  end: boolean;
}

class Reader {
  constructor(
    readonly bytes: Buffer,
    public at: number,
  ) {}
  u8(): number {
    return this.bytes.readUInt8(this.at++);
  }
  s8(): number {
    return this.bytes.readInt8(this.at++);
  }
  u16(): number {
    this.at += 2;
    return this.bytes.readUInt16LE(this.at - 2);
  }
  u32(): number {
    this.at += 4;
    return this.bytes.readUInt32LE(this.at - 4);
  }
  u64(): bigint {
    this.at += 8;
    return this.bytes.readBigUInt64LE(this.at - 8);
  }
  uleb(): number {
    let result = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.u8();
      result += (byte & 127) * 2 ** shift;
      if (byte < 128) return result;
    }
  }
  sleb(): number {
    let result = 0;
    for (let shift = 0; ; ) {
      const byte = this.u8();
      result += (byte & 127) * 2 ** shift;
      shift += 7;
      if (byte < 128) return byte & 64 ? result - 2 ** shift : result;
    }
  }
  string(): string {
    const end = this.bytes.indexOf(0, this.at);
    const text = this.bytes.toString("utf8", this.at, end);
    this.at = end + 1;
    return text;
  }
}

interface Header {
  end: number;
  minimumInstructionBytes: number;
  lineBase: number;
  lineRange: number;
  opcodeBase: number;
  opcodeLengths: number[];
  files: string[];
}

function readHeader(reader: Reader): Header {
  const bytes = reader.u32();
  const end = reader.at + bytes;
  const version = reader.u16();
  if (version < 2 || version > 4) throw new Error(`.debug_line: version ${version} is not supported`);
  const programStart = reader.u32() + reader.at;
  const minimumInstructionBytes = reader.u8();
  if (version === 4) reader.u8(); // operations an instruction
  reader.u8(); // default of is_stmt
  const lineBase = reader.s8();
  const lineRange = reader.u8();
  const opcodeBase = reader.u8();
  const opcodeLengths = Array.from({ length: opcodeBase - 1 }, () => reader.u8());
  const folders = [""];
  for (let name = reader.string(); name; name = reader.string()) folders.push(name);
  const files = [""];
  for (let name = reader.string(); name; name = reader.string()) {
    const folder = folders[reader.uleb()];
    reader.uleb(); // time
    reader.uleb(); // length
    files.push(folder ? `${folder}/${name}` : name);
  }
  reader.at = programStart;
  return { end, minimumInstructionBytes, lineBase, lineRange, opcodeBase, opcodeLengths, files };
}

// Opcodes.
const COPY = 1;
const ADVANCE_PC = 2;
const ADVANCE_LINE = 3;
const SET_FILE = 4;
const CONST_ADD_PC = 8;
const FIXED_ADVANCE_PC = 9;
const EXTENDED_END_SEQUENCE = 1;
const EXTENDED_SET_ADDRESS = 2;

function runProgram(reader: Reader, header: Header, rows: LineRow[]): void {
  const initial = { address: 0n, file: 1, line: 1 };
  let state = { ...initial };
  const emit = (end = false): void => {
    rows.push({ address: state.address, file: header.files[state.file] ?? "", line: state.line, end });
  };
  const advance = (operations: number): void => {
    state.address += BigInt(operations * header.minimumInstructionBytes);
  };
  while (reader.at < header.end) {
    const opcode = reader.u8();
    if (opcode >= header.opcodeBase) {
      const adjusted = opcode - header.opcodeBase;
      advance(Math.floor(adjusted / header.lineRange));
      state.line += header.lineBase + (adjusted % header.lineRange);
      emit();
    } else if (opcode === 0) {
      const next = reader.uleb() + reader.at;
      const extended = reader.u8();
      if (extended === EXTENDED_END_SEQUENCE) {
        emit(true);
        state = { ...initial };
      } else if (extended === EXTENDED_SET_ADDRESS) state.address = reader.u64();
      reader.at = next;
    } else if (opcode === COPY) emit();
    else if (opcode === ADVANCE_PC) advance(reader.uleb());
    else if (opcode === ADVANCE_LINE) state.line += reader.sleb();
    else if (opcode === SET_FILE) state.file = reader.uleb();
    else if (opcode === CONST_ADD_PC) advance(Math.floor((255 - header.opcodeBase) / header.lineRange));
    else if (opcode === FIXED_ADVANCE_PC) state.address += BigInt(reader.u16());
    else for (let i = 0; i < (header.opcodeLengths[opcode - 1] ?? 0); i++) reader.uleb();
  }
  reader.at = header.end;
}

/** All rows, by address. */
export function readLines(debugLine: Buffer): LineRow[] {
  const rows: LineRow[] = [];
  const reader = new Reader(debugLine, 0);
  while (reader.at < debugLine.length) runProgram(reader, readHeader(reader), rows);
  return rows.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : Number(b.end) - Number(a.end)));
}

/**
 * NASM writes the operand of DW_LNS_set_file as one byte, where DWARF wants a LEB128 number: from the
 * 128th file on its programs are broken. This gives them the second byte. Units grow, so that only the
 * last one that grows keeps the places of the others: boot/image.ld puts the core's unit last.
 */
export function widenFileNumbers(section: Buffer): Buffer {
  const units: Buffer[] = [];
  for (let at = 0; at < section.length; ) {
    const end = at + 4 + section.readUInt32LE(at);
    units.push(widenUnit(section.subarray(at, end)));
    if (units.at(-1)?.length !== end - at && end !== section.length)
      throw new Error(".debug_line: a unit with more than 127 files is not the last one");
    at = end;
  }
  return Buffer.concat(units);
}

function widenUnit(unit: Buffer): Buffer {
  const reader = new Reader(unit, 0);
  const header = readHeader(reader);
  if (header.files.length <= 128) return unit;
  if (header.files.length > 256) throw new Error(".debug_line: NASM cannot number more than 255 files");
  const out: Buffer[] = [unit.subarray(0, reader.at)];
  while (reader.at < header.end) {
    const start = reader.at;
    const opcode = reader.u8();
    if (opcode === SET_FILE) {
      const file = reader.u8();
      out.push(Buffer.from(file < 128 ? [SET_FILE, file] : [SET_FILE, file, 1]));
      continue;
    }
    skipOperands(reader, header, opcode);
    out.push(unit.subarray(start, reader.at));
  }
  const widened = Buffer.concat(out);
  widened.writeUInt32LE(widened.length - 4, 0);
  return widened;
}

function skipOperands(reader: Reader, header: Header, opcode: number): void {
  if (opcode >= header.opcodeBase) return;
  if (opcode === 0) {
    const bytes = reader.uleb();
    reader.at += bytes;
  } else if (opcode === FIXED_ADVANCE_PC) reader.u16();
  else for (let i = 0; i < (header.opcodeLengths[opcode - 1] ?? 0); i++) reader.uleb();
}
