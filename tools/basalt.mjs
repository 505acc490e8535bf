#!/usr/bin/env node
// The launcher of the `basalt` command. A build with nothing to do ends here, before TypeScript is loaded.

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { upToDate } from "./image/stamp.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [command, ...rest] = process.argv.slice(2);
const profile = rest[0] === "--profile" && rest.length === 2 ? rest[1] : rest.length === 0 ? "release" : null;
const known = command === "build" && profile ? upToDate(root, profile) : null;

if (known) console.log(`build/${profile}/basalt.elf is up to date (build ${known.buildId})`);
else {
  const { launch } = await import("./launch.mjs");
  await launch(join(root, "tools/cli.ts"), process.argv.slice(2));
}
