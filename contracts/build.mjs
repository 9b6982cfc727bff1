// Compiles the contracts with npm's solc (offline) and writes or checks node/artifacts/*.json.
//
//   node build.mjs           write node/artifacts and tests/contracts/artifacts
//   node build.mjs --check   recompile and compare; exits 1 and names what differs
//
// Settings are those of foundry.toml, so that forge gives the same bytecode.

import { createRequire } from "node:module";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);
const MAX_CODE_BYTES = 24_576; // EIP-170

const METADATA = { bytecodeHash: "none", appendCBOR: false };

// One build per compiler: what it compiles, how, and where each contract's artifact goes.
const BUILDS = [
  {
    compiler: "solc",
    folders: ["src", "test/doubles"],
    settings: { evmVersion: "cancun", viaIR: true, optimizer: { enabled: true, runs: 200 }, metadata: METADATA },
    targets: {
      "../node/artifacts": ["Beacon", "TestBeacon", "Verifiers", "Models", "Model", "Market", "Workers", "Jobs"],
      "../tests/contracts/artifacts": ["VerifiersDouble", "AssignmentProbe", "ReentrantRequester", "GoodToken", "FeeToken", "SilentToken", "HostileToken"],
    },
  },
  {
    compiler: "solc-0.8.20",
    folders: ["vendor"],
    settings: { evmVersion: "shanghai", optimizer: { enabled: true, runs: 1 }, metadata: METADATA },
    targets: { "../node/artifacts": ["Halo2VerifierReusable"] },
  },
];

function readSources(folder) {
  const sources = {};
  for (const entry of readdirSync(join(HERE, folder), { recursive: true }).sort()) {
    if (!entry.endsWith(".sol")) continue;
    const path = join(folder, entry).replaceAll("\\", "/");
    sources[path] = { content: readFileSync(join(HERE, path), "utf8") };
  }
  return sources;
}

function findImport(path) {
  const file = join(HERE, path.startsWith("@") ? join("node_modules", path) : path);
  return existsSync(file) ? { contents: readFileSync(file, "utf8") } : { error: `not found: ${path}` };
}

// OpenZeppelin's guard in transient storage is warned about; it clears what it sets.
function isOurs({ sourceLocation }) {
  return !sourceLocation?.file.startsWith("@");
}

function compile({ compiler, folders, settings, targets }) {
  const solc = require(compiler);
  const outputs = ["abi", "evm.bytecode.object", "evm.deployedBytecode"];
  const wanted = Object.fromEntries(Object.values(targets).flat().map((name) => [name, outputs]));
  const input = {
    language: "Solidity",
    sources: Object.assign({}, ...folders.map(readSources)),
    settings: {
      ...settings,
      outputSelection: { "*": wanted },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: findImport }));
  const problems = (output.errors ?? []).filter((e) => e.severity === "error" || (compiler === "solc" && isOurs(e)));
  if (problems.length) throw new Error(problems.map((e) => e.formattedMessage).join("\n"));
  return { contracts: Object.assign({}, ...Object.values(output.contracts)), version: solc.version() };
}

function describe(name, { contracts, version }, settings) {
  const { abi, evm } = contracts[name];
  const { object, immutableReferences } = evm.deployedBytecode;
  if (object.length / 2 > MAX_CODE_BYTES) throw new Error(`${name}: ${object.length / 2} bytes of code`);
  const isFixed = Object.keys(immutableReferences ?? {}).length === 0;
  return {
    contract: name,
    abi,
    bytecode: `0x${evm.bytecode.object}`,
    ...(isFixed && { deployedBytecode: `0x${object}` }), // immutables are filled in at deployment
    compiler: version.replace(/\.(Emscripten|mod).*$/, ""),
    settings,
  };
}

function artifacts() {
  return BUILDS.flatMap((build) => {
    const compiled = compile(build);
    return Object.entries(build.targets).flatMap(([folder, names]) =>
      names.map((name) => ({
        path: join(HERE, folder, `${name}.json`),
        text: JSON.stringify(describe(name, compiled, build.settings), null, 1) + "\n",
      })),
    );
  });
}

function write({ path, text }) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

const checking = process.argv.includes("--check");
const built = artifacts();
if (!checking) built.forEach(write);
const stale = built.filter(({ path, text }) => !existsSync(path) || readFileSync(path, "utf8") !== text);
for (const { path } of stale) console.error(`${relative(process.cwd(), path)} is not what the sources compile to: run make abi`);
if (!stale.length) console.log(`${built.length} artifacts ${checking ? "match their sources" : "written"}`);
process.exitCode = stale.length ? 1 : 0;
