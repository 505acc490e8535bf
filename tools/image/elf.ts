/**
 * Just enough of ELF64, little-endian: program headers, sections, symbols. System V ABI, "Object Files".
 */

export interface Segment {
  type: number;
  /** Bit 0 execute, bit 1 write, bit 2 read. */
  flags: number;
  fileOffset: number;
  virtual: bigint;
  physical: bigint;
  fileBytes: number;
  memoryBytes: number;
}

export interface Section {
  name: string;
  type: number;
  flags: number;
  address: bigint;
  fileOffset: number;
  bytes: number;
  link: number;
}

export interface ElfSymbol {
  name: string;
  address: bigint;
  bytes: number;
  /** 0 no type, 1 object, 2 function, 3 section, 4 file. */
  type: number;
  global: boolean;
  section: number;
}

export const PT_LOAD = 1;
export const SHT_SYMTAB = 2;
export const SHT_NOBITS = 8;
export const SHF_ALLOC = 2;

export class Elf {
  readonly segments: Segment[] = [];
  readonly sections: Section[] = [];
  readonly entry: bigint;

  constructor(readonly file: Buffer) {
    if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46) throw new Error("not an ELF file");
    if (file[4] !== 2 || file[5] !== 1) throw new Error("not a 64-bit little-endian ELF file");
    this.entry = file.readBigUInt64LE(24);
    this.#readSegments();
    this.#readSections();
  }

  #readSegments(): void {
    const { file } = this;
    const start = Number(file.readBigUInt64LE(32));
    const entryBytes = file.readUInt16LE(54);
    for (let i = 0; i < file.readUInt16LE(56); i++) {
      const at = start + i * entryBytes;
      this.segments.push({
        type: file.readUInt32LE(at),
        flags: file.readUInt32LE(at + 4),
        fileOffset: Number(file.readBigUInt64LE(at + 8)),
        virtual: file.readBigUInt64LE(at + 16),
        physical: file.readBigUInt64LE(at + 24),
        fileBytes: Number(file.readBigUInt64LE(at + 32)),
        memoryBytes: Number(file.readBigUInt64LE(at + 40)),
      });
    }
  }

  #readSections(): void {
    const { file } = this;
    const start = Number(file.readBigUInt64LE(40));
    const entryBytes = file.readUInt16LE(58);
    const nameOffsets: number[] = [];
    for (let i = 0; i < file.readUInt16LE(60); i++) {
      const at = start + i * entryBytes;
      nameOffsets.push(file.readUInt32LE(at));
      this.sections.push({
        name: "",
        type: file.readUInt32LE(at + 4),
        flags: Number(file.readBigUInt64LE(at + 8)),
        address: file.readBigUInt64LE(at + 16),
        fileOffset: Number(file.readBigUInt64LE(at + 24)),
        bytes: Number(file.readBigUInt64LE(at + 32)),
        link: file.readUInt32LE(at + 40),
      });
    }
    const names = this.sections[file.readUInt16LE(62)];
    if (!names) return;
    this.sections.forEach((section, i) => {
      section.name = this.#string(names, nameOffsets[i] as number);
    });
  }

  #string(table: Section, offset: number): string {
    const start = table.fileOffset + offset;
    return this.file.toString("utf8", start, this.file.indexOf(0, start));
  }

  section(name: string): Section | undefined {
    return this.sections.find((s) => s.name === name);
  }

  /** The bytes of a section in the file; empty for one that occupies none. */
  bytesOf(section: Section): Buffer {
    if (section.type === SHT_NOBITS) return Buffer.alloc(0);
    return this.file.subarray(section.fileOffset, section.fileOffset + section.bytes);
  }

  symbols(): ElfSymbol[] {
    const table = this.sections.find((s) => s.type === SHT_SYMTAB);
    if (!table) return [];
    const names = this.sections[table.link] as Section;
    const result: ElfSymbol[] = [];
    for (let at = table.fileOffset; at < table.fileOffset + table.bytes; at += 24) {
      const info = this.file[at + 4] as number;
      result.push({
        name: this.#string(names, this.file.readUInt32LE(at)),
        type: info & 15,
        global: info >> 4 !== 0,
        section: this.file.readUInt16LE(at + 6),
        address: this.file.readBigUInt64LE(at + 8),
        bytes: Number(this.file.readBigUInt64LE(at + 16)),
      });
    }
    return result;
  }

  /** File offset of the byte that is loaded at `address`. */
  offsetOf(address: bigint): number {
    const segment = this.segments.find(
      (s) => s.type === PT_LOAD && address >= s.virtual && address < s.virtual + BigInt(s.fileBytes),
    );
    if (!segment) throw new Error(`no byte of the file is loaded at ${address.toString(16)}`);
    return segment.fileOffset + Number(address - segment.virtual);
  }
}
