import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { guestModules, parseGuest } from "../../../../tools/run/guest.ts";

const folder = mkdtempSync(join(tmpdir(), "basalt-guest-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = (name: string): string => {
  const path = join(folder, name);
  writeFileSync(path, "");
  return path;
};
const kernel = file("kernel one.elf");
const initrd = file("initrd");

describe("--guest", () => {
  test("becomes a module with the guest's words, and modules for its other files", () => {
    const guest = parseGuest(`${kernel},name=web,memory=64M,cpus=2,initrd=${initrd},module=${initrd}`);
    expect(guestModules([guest])).toEqual([
      { file: kernel, string: "guest=web memory=64M cpus=2" },
      { file: initrd, string: "initrd=web" },
      { file: initrd, string: "module=web" },
    ]);
  });

  test("gives cmdline= all the rest, commas and blanks included", () => {
    const guest = parseGuest(`${kernel},memory=64M,cmdline=console=ttyS0,115200 root=/dev/x,y`);
    expect(guestModules([guest])[0]?.string).toBe(
      "guest=kernel_one.elf memory=64M cmdline=console=ttyS0,115200 root=/dev/x,y",
    );
  });

  test("tells guests of one name apart", () => {
    const names = guestModules([parseGuest(kernel), parseGuest(kernel), parseGuest(`${kernel},name=a`)]);
    expect(names.map((m) => m.string)).toEqual(["guest=kernel_one.elf", "guest=kernel_one.elf-2", "guest=a"]);
  });

  test("is refused in one line when it is wrong", () => {
    expect(() => parseGuest(`${folder}/missing`)).toThrow(/no file .*missing/);
    expect(() => parseGuest(`${kernel},initrd=${folder}`)).toThrow(/no file/);
    expect(() => parseGuest(`${kernel},memroy=64M`)).toThrow(/unknown word 'memroy'/);
    expect(() => parseGuest(`${kernel},cpus`)).toThrow(/'cpus' is not WORD=VALUE/);
    expect(() => parseGuest(",cpus=1")).toThrow(/a file must come first/);
  });
});
