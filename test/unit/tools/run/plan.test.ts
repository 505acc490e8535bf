import { describe, expect, test } from "vitest";
import { judgeBochs, lastTick, planBochs, secondsFor } from "../../../../tools/run/bochs.ts";
import { judgeQemu, planQemu } from "../../../../tools/run/qemu.ts";

const elf = "/image/basalt.elf";
const bare = { iso: null, firmware: null };
const line = (args: string[]): string => args.join(" ");

describe("QEMU's command line", () => {
  test("loads the ELF itself, with command line and modules, commas doubled", () => {
    const args = planQemu(
      { elf, on: "qemu", append: "a=b c", modules: [{ file: "/m/one,1" }, { file: "/m/two", string: "x y" }] },
      bare,
    );
    expect(args[args.indexOf("-append") + 1]).toBe("a=b c");
    expect(args[args.indexOf("-initrd") + 1]).toBe("/m/one,,1,/m/two x y");
    expect(line(args)).toContain(`-kernel ${elf}`);
    expect(line(args)).toContain("-machine pc,accel=tcg");
  });

  test("asks KVM for VMX and takes a q35", () => {
    const args = line(planQemu({ elf, on: "kvm", cpus: 4, memoryMib: 1024 }, bare));
    expect(args).toContain("-machine q35,accel=kvm -cpu host,+vmx -smp 4 -m 1024M");
  });

  test("boots an ISO by UEFI with a private copy of the variables", () => {
    const args = line(
      planQemu({ elf, on: "qemu", uefi: true }, { iso: "/b.iso", firmware: { code: "/c.fd", variables: "/v.fd" } }),
    );
    expect(args).toContain("readonly=on,file=/c.fd");
    expect(args).toContain("unit=1,format=raw,file=/v.fd");
    expect(args).toContain("-cdrom /b.iso");
    expect(args).not.toContain("-kernel");
  });

  test("waits for a debugger when asked to", () => {
    expect(line(planQemu({ elf, on: "qemu", gdbPort: 1234 }, bare))).toContain("-S -gdb tcp:127.0.0.1:1234");
  });
});

describe("QEMU's end", () => {
  test("is the image's own through the exit port", () => {
    expect(judgeQemu(1, "").exit).toBe("ended");
    expect(judgeQemu(0, "").exit).toBe("ended");
  });
  test("is a crash when QEMU complains or dies of a signal", () => {
    expect(judgeQemu(1, "qemu-system-x86_64: could not load kernel").exit).toBe("crashed");
    expect(judgeQemu(null, "").exit).toBe("crashed");
  });
});

describe("Bochs", () => {
  test("gets the machine that was asked for, and stops at a tick", () => {
    const plan = planBochs(
      { elf, cpus: 2, memoryMib: 4096, model: "tigerlake", ips: 4e6, timeoutTicks: 99 },
      "/b.iso",
      7,
    );
    expect(plan.config).toContain("cpu: model=tigerlake, count=2, ips=4000000");
    expect(plan.config).toContain("memory: guest=4096, host=2048");
    expect(plan.config).toContain("dev=127.0.0.1:7");
    expect(plan.script).toBe("sb 99\nc\nq\n");
    expect(plan.config).toContain("magic_break: enabled=0"); // a guest's XCHG BX, BX is not the end
  });

  test("ticks are bounded by real time as well, for a machine that halts makes none", () => {
    expect(secondsFor({ elf, timeoutTicks: 1000 })).toBe(60);
    expect(secondsFor({ elf, timeoutTicks: 4e9 })).toBe(2000);
    expect(secondsFor({ elf, timeoutTicks: 4e9, timeoutSeconds: 5 })).toBe(5);
    expect(secondsFor({ elf })).toBeUndefined();
  });

  const QUIT = "(0) Magic breakpoint\nNext at t=228673865\n(0).[228673865] [0x000000102016] 0008:ffffffff80102016";
  test("tells its ticks in its last line", () => {
    expect(lastTick(QUIT)).toBe(228673865);
    expect(lastTick("no such line")).toBeNull();
  });

  test("ended well, ran out of ticks, or crashed", () => {
    expect(judgeBochs(0, QUIT, "").exit).toBe("ended");
    expect(judgeBochs(1, "", "00e[UNMAP ] Shutdown port: shutdown requested").exit).toBe("ended");
    expect(judgeBochs(0, "(0) Caught time breakpoint\nNext at t=99", "").exit).toBe("timeout");
    expect(judgeBochs(1, "", "123p[CPU0 ] >>PANIC<< 3rd (13) exception with no resolution")).toEqual({
      exit: "crashed",
      detail: "3rd (13) exception with no resolution",
    });
  });
});
