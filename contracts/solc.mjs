#!/usr/bin/env node
// A `solc` command over npm's solcjs, as much of it as forge and slither use: --version and --standard-json.

import { createRequire } from "node:module";
import { existsSync, readFileSync, writeSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const solc = createRequire(import.meta.url)("solc");
const WITH_VALUE = ["--base-path", "--include-path", "--allow-paths"];

function optionOf(args, name) {
  const at = args.indexOf(name);
  return at < 0 ? undefined : args[at + 1];
}

function findImport(folders) {
  return (path) => {
    const file = folders.map((folder) => resolve(folder, path)).find(existsSync);
    return file ? { contents: readFileSync(file, "utf8") } : { error: `not found: ${path}` };
  };
}

// A pipe takes 64 KiB at a time, and process.stdout would drop the rest at exit.
function writeAll(text) {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

const args = process.argv.slice(2);
if (args.includes("--version")) {
  writeAll(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
} else if (args.includes("--standard-json")) {
  const file = args.find((arg, i) => !arg.startsWith("-") && !WITH_VALUE.includes(args[i - 1]));
  const base = optionOf(args, "--base-path") ?? process.cwd();
  const input = readFileSync(file ?? 0, "utf8");
  writeAll(solc.compile(input, { import: findImport([base, join(HERE, "node_modules"), process.cwd()]) }));
} else {
  console.error(`solc.mjs: only --version and --standard-json, not ${args.join(" ")}`);
  process.exitCode = 2;
}
