import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPolicyBundle, readTarGz, type InputPath } from '../../shared/policy/policy-bundle.ts';

const LIMITS = { maxFiles: 64, maxFileBytes: 1 << 26, maxBytes: 1 << 27 };

/** Compiles Rego (and data) with the real `opa` into the artefact that agents load. No check is made: that is the server's part. */
export function buildPolicy(options: {
  readonly rego: string;
  readonly data?: unknown;
  readonly entrypoints?: readonly string[];
  /** As the server would have found them. */
  readonly reads?: readonly InputPath[];
}): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'picket-policy-'));
  try {
    writeFileSync(join(folder, 'policy.rego'), options.rego);
    writeFileSync(join(folder, 'data.json'), JSON.stringify(options.data ?? {}));
    const entrypoints = options.entrypoints ?? ['picket/authz/allow'];
    const output = join(folder, 'out.tar.gz');
    const build = Bun.spawnSync(
      ['opa', 'build', '--bundle', '.', '-t', 'wasm', ...entrypoints.flatMap((e) => ['-e', e]), '-o', output],
      { cwd: folder },
    );
    if (!build.success)
      throw new Error(`opa build failed: ${build.stderr.toString()}${build.stdout.toString()}`);
    const files = readTarGz(readFileSync(output), LIMITS);
    const reads = options.reads === undefined ? {} : { reads: options.reads };
    return buildPolicyBundle({ ...reads, wasm: files.get('policy.wasm')!, data: files.get('data.json')! });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
