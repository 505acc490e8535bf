// The ACPI tables that a guest finds: checksums, links and contents, and that a compiler's disassembler accepts them.

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ARENA, vmFixture } from "../vdev/fixture.ts";

const GUEST = 64 * 1024 * 1024;

async function tables(vcpus: number) {
  const f = await vmFixture({ entry: "test/unit/guest/guest.as.ts", vcpus });
  expect(f.k.writeAcpi(ARENA)).toBe(0xe0000n);
  const area = Buffer.from(f.m.ram.dump(GUEST + 0xe0000, 0x20000));
  const at = (gpa: number, bytes: number) => area.subarray(gpa - 0xe0000, gpa - 0xe0000 + bytes);
  const table = (gpa: number) => at(gpa, at(gpa, 8).readUInt32LE(4));
  const rsdp = at(0xe0000, 36);
  const xsdt = table(Number(rsdp.readBigUInt64LE(24)));
  const entries = [...Array((xsdt.length - 36) / 8).keys()].map((i) => Number(xsdt.readBigUInt64LE(36 + 8 * i)));
  const all = new Map(entries.map((gpa) => [table(gpa).toString("latin1", 0, 4), table(gpa)]));
  const fadt = all.get("FACP") as Buffer;
  all.set("XSDT", xsdt);
  all.set("RSDT", table(rsdp.readUInt32LE(16)));
  all.set("DSDT", table(fadt.readUInt32LE(40)));
  return { rsdp, all, fadt, at, entries };
}

const sum = (bytes: Uint8Array) => bytes.reduce((a, b) => (a + b) & 0xff, 0);

test("checksums and links hold", async () => {
  const { rsdp, all, fadt, at, entries } = await tables(3);
  expect(rsdp.toString("latin1", 0, 8)).toBe("RSD PTR ");
  expect(sum(rsdp.subarray(0, 20))).toBe(0);
  expect(sum(rsdp)).toBe(0);
  expect([...all.keys()].sort()).toEqual(["APIC", "DSDT", "FACP", "MCFG", "RSDT", "XSDT"]);
  for (const [name, table] of all) expect(sum(table), name).toBe(0);
  const rsdt = all.get("RSDT") as Buffer;
  expect([...Array((rsdt.length - 36) / 4).keys()].map((i) => rsdt.readUInt32LE(36 + 4 * i))).toEqual(entries);
  expect(Number(fadt.readBigUInt64LE(140))).toBe(fadt.readUInt32LE(40));
  const facs = at(fadt.readUInt32LE(36), 64);
  expect(facs.toString("latin1", 0, 4)).toBe("FACS");
  expect(fadt.readUInt32LE(36) % 64).toBe(0);
});

test("FADT: the registers, the reset and the features are those of the devices", async () => {
  const { fadt } = await tables(1);
  expect(fadt.length).toBe(276);
  expect(fadt.readUInt16LE(46)).toBe(9); // SCI
  expect([fadt.readUInt32LE(56), fadt.readUInt32LE(64), fadt.readUInt32LE(76)]).toEqual([0x600, 0x604, 0x608]);
  expect([...fadt.subarray(88, 92)]).toEqual([4, 2, 0, 4]);
  expect(fadt.readUInt16LE(109)).toBe(5);
  expect(fadt.readUInt32LE(112) & (1 << 10)).not.toBe(0);
  expect([fadt[116], Number(fadt.readBigUInt64LE(120)), fadt[128]]).toEqual([1, 0xcf9, 6]);
  expect(Number(fadt.readBigUInt64LE(152))).toBe(0x600);
  expect(Number(fadt.readBigUInt64LE(212))).toBe(0x608);
});

test("MADT: a local APIC for each vCPU, one I/O APIC, the timer on pin 2, NMI on LINT1", async () => {
  for (const vcpus of [1, 5, 16]) {
    const madt = (await tables(vcpus)).all.get("APIC") as Buffer;
    expect(madt.readUInt32LE(36)).toBe(0xfee00000);
    const entries: Buffer[] = [];
    for (let at = 44; at < madt.length; at += madt[at + 1]) entries.push(madt.subarray(at, at + madt[at + 1]));
    const lapics = entries.filter((e) => e[0] === 0);
    expect(lapics.map((e) => e[3])).toEqual([...Array(vcpus).keys()]);
    expect(lapics.every((e) => e.readUInt32LE(4) === 1)).toBe(true);
    const io = entries.find((e) => e[0] === 1) as Buffer;
    expect(io.readUInt32LE(4)).toBe(0xfec00000);
    const overrides = entries.filter((e) => e[0] === 2).map((e) => [e[3], e.readUInt32LE(4), e.readUInt16LE(8)]);
    expect(overrides).toEqual([
      [0, 2, 5],
      [9, 9, 0xd],
    ]);
    expect([...(entries.find((e) => e[0] === 4) as Buffer)]).toEqual([4, 6, 0xff, 0, 0, 1]);
  }
});

test("MCFG: bus 0 alone, where the bus maps it", async () => {
  const mcfg = (await tables(1)).all.get("MCFG") as Buffer;
  expect([mcfg.length, Number(mcfg.readBigUInt64LE(44)), mcfg.readBigUInt64LE(52)]).toEqual([60, 0xc0000000, 0n]);
});

test("DSDT: package lengths nest exactly, and it says S5, the bridge, the UART and the clock", async () => {
  const dsdt = (await tables(1)).all.get("DSDT") as Buffer;
  const text = dsdt.toString("latin1");
  for (const name of ["_S5_", "_SB_", "PCI0", "COM1", "RTC_", "_CRS"]) expect(text).toContain(name);
  const end = (at: number) => at + (dsdt[at] & 15) + (dsdt[at + 1] << 4);
  const scope = text.indexOf("\\_SB_") - 3;
  expect(dsdt[scope]).toBe(0x10);
  expect(end(scope + 1)).toBe(dsdt.length);
  const devices: [number, number][] = [];
  for (let at = text.indexOf("\x5b\x82"); at >= 0; at = text.indexOf("\x5b\x82", end(at + 2)))
    devices.push([at, end(at + 2)]);
  expect(devices.length).toBe(4);
  expect(devices[3][1]).toBe(dsdt.length);
});

const iasl = spawnSync("iasl", ["-v"]).status === 0;

test.skipIf(!iasl)("iasl disassembles the tables and compiles the DSDT again", async () => {
  const { all } = await tables(2);
  const folder = mkdtempSync(join(tmpdir(), "basalt-acpi-"));
  for (const [name, table] of all) {
    const file = join(folder, `${name.toLowerCase()}.dat`);
    writeFileSync(file, table);
    execFileSync("iasl", ["-d", file], { stdio: "pipe" });
  }
  const source = readFileSync(join(folder, "dsdt.dsl"), "utf8");
  expect(source).toContain('_HID, EisaId ("PNP0A03")');
  expect(source).toContain("Name (\\_S5");
  const output = execFileSync("iasl", [join(folder, "dsdt.dsl")], { encoding: "utf8", stdio: "pipe" });
  expect(output).toMatch(/0 Errors, 0 Warnings/);
});
