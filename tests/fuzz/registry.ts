import { basename, join } from 'node:path';
import type { FuzzTarget } from './target.ts';

const FOLDER = join(import.meta.dirname, 'targets');

/** Names of all targets: each is the file `targets/NAME.ts`, which exports `target`. */
export function listTargets(): readonly string[] {
  return [...new Bun.Glob('*.ts').scanSync(FOLDER)].map((file) => basename(file, '.ts')).toSorted();
}

/** The file of a target. */
export function pathOfTarget(name: string): string {
  return join(FOLDER, `${name}.ts`);
}

/** Loads the target that a file exports. */
export async function loadTarget(path: string): Promise<FuzzTarget> {
  const module = (await import(path)) as { readonly target: FuzzTarget };
  return module.target;
}
