import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parseSafeName } from '../../shared/policy/tar.ts';
import type { PolicyFiles } from './policy-compiler.ts';

/** A folder of its own for one run of the compiler: the policy below `bundle`, everything else beside it. */
export interface CompilerWorkspace {
  readonly folder: string;
  readonly bundle: string;
  /** Writes a file beside the bundle and returns its path. */
  readonly write: (name: string, text: string) => Promise<string>;
}

/** Runs `work` in a new workspace, readable by its owner alone, that is removed however `work` ends. */
export async function withWorkspace<T>(
  options: { readonly files: PolicyFiles; readonly temporaryFolder: string },
  work: (workspace: CompilerWorkspace) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(options.temporaryFolder, 'picket-policy-'));
  try {
    const bundle = join(folder, 'bundle');
    await mkdir(bundle);
    for (const [name, text] of Object.entries(options.files)) {
      const path = join(bundle, parseSafeName(name));
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, text);
    }
    return await work({ folder, bundle, write: (name, text) => writeBeside(join(folder, name), text) });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function writeBeside(path: string, text: string): Promise<string> {
  await writeFile(path, text);
  return path;
}
