// Guests that are neither Linux nor ours: memtest86+ and GRUB, up to their screens on the serial line, and a key typed into each.

import { join } from "node:path";
import { expect, test } from "vitest";
import { grubPayload, memtest } from "../../tools/guests/payloads.ts";
import { assembleGuests, ending } from "./guestrun.ts";
import { run } from "./harness.ts";

const MINUTE = 60_000;
const ESCAPE = "\x1b";
const DOWN = "\x1b[B";
const BACK = "\x1d";

/** Types each text when what the machine printed since the last one matches. */
function script(steps: [at: RegExp, text: string][]) {
  let type: (text: string) => void = () => {};
  let seen = "";
  return {
    onReady: (typing: (text: string) => void) => {
      type = typing;
    },
    onSerial: (text: string) => {
      seen += text;
      const step = steps[0];
      if (!step?.[0].test(seen)) return;
      seen = "";
      steps.shift();
      type(step[1]);
    },
  };
}

test(
  "memtest86+ tests the memory of two vCPUs and GRUB shows its menu; both take keys; one powers off by ACPI, one resets",
  async () => {
    const { serial, exit } = await run({
      on: "bochs",
      model: "corei7_haswell_4770",
      ips: 20_000_000,
      memoryMib: 256,
      timeoutTicks: 6_000_000_000,
      timeoutSeconds: 10 * 60,
      append: "exit=bochs apicv=off",
      modules: [
        { file: join(assembleGuests(), "coreboot"), string: "guest=grub memory=64M" },
        { file: grubPayload(), string: "module=grub" },
        { file: memtest(), string: "guest=memtest memory=24M cpus=2 cmdline=console=ttyS0,115200 nopause" },
      ],
      ...script([
        [/grub\| .*first entry/, "attach grub\r"],
        [/attached/, DOWN],
        [/\*second entry/, "\r"],
        [/grub ended/, `${BACK}\r`],
        [/Status: Testing/, "attach memtest\r"],
        [/attached/, ESCAPE],
      ]),
    });
    expect(serial).toMatch(/grub\| .*GNU GRUB +version 2/);
    expect(serial).toMatch(/chosen: second/);
    expect(ending(serial, "grub"), serial.slice(-3000)).toBe("ended: powered off, code 0");
    expect(serial).toMatch(/memtest\| .*Memtest86\+/);
    expect(serial).toMatch(/CPU: 2 Cores 2 Threads/);
    expect(serial).toMatch(/Pass: +0 +Errors: 0/);
    expect(ending(serial, "memtest"), serial.slice(-3000)).toBe("ended: asked for a reset, code 0");
    expect(exit).toBe("ended");
  },
  12 * MINUTE,
);
