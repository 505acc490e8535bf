#!/usr/bin/env node
// Runs a TypeScript program of this tree in plain Node, without a loader: `node tools/launch.mjs FILE.ts [ARGUMENTS]`.
// esbuild bundles it; npm packages stay where they are. A loader would have to read those too, and asc brings
// Binaryen in 13 MB of JavaScript. NODE_OPTIONS=--enable-source-maps names TypeScript lines in stack traces.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const BUNDLES = join(ROOT, ".cache/bundles");
const DAY_MS = 86_400_000;

/** Each module goes on knowing the file that it was written in. */
const ownUrls = {
  name: "own-urls",
  setup: (bundler) =>
    bundler.onLoad({ filter: /\.m?ts$/ }, ({ path }) => ({
      loader: "ts",
      contents: readFileSync(path, "utf8").replaceAll("import.meta.url", JSON.stringify(pathToFileURL(path).href)),
    })),
};

/** Bundles `entry` and returns the file to import. The folder is named by what is in it: programs that start at once share it. */
async function bundle(entry) {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    splitting: true,
    write: false,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    outdir: BUNDLES,
    outExtension: { ".js": ".mjs" },
    sourcemap: "linked",
    plugins: [ownUrls],
  });
  const hash = createHash("sha256");
  for (const { path, contents } of outputFiles) hash.update(`${path}\0`).update(contents);
  const folder = join(BUNDLES, hash.digest("hex").slice(0, 32));
  if (!existsSync(folder)) write(folder, outputFiles);
  return join(folder, `${basename(entry, ".ts")}.mjs`);
}

function write(folder, files) {
  const fresh = `${folder}.${process.pid}`;
  mkdirSync(fresh, { recursive: true });
  forgetOld();
  for (const { path, contents } of files) writeFileSync(join(fresh, basename(path)), contents);
  try {
    renameSync(fresh, folder);
  } catch {
    rmSync(fresh, { recursive: true }); // another process was first
  }
}

/** Bundles that were made more than a day ago. */
function forgetOld() {
  for (const name of readdirSync(BUNDLES)) {
    const path = join(BUNDLES, name);
    const made = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
    if (made !== undefined && made < Date.now() - DAY_MS) rmSync(path, { recursive: true, force: true });
  }
}

/** Runs the program in `entry` as if Node had been started with it. */
export async function launch(entry, args) {
  const program = await bundle(entry);
  process.argv.splice(1, process.argv.length, entry, ...args);
  await import(pathToFileURL(program).href);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const [entry, ...args] = process.argv.slice(2);
  await launch(resolve(entry ?? "."), args);
}
