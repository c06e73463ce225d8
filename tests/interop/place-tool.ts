import { chmodSync, copyFileSync } from 'node:fs';
import { join } from 'node:path';

/** Puts a program of the suites where every user can run it, and says where. Throws where it was not built. */
export function placeTool(name: string, folder: string): string {
  const built = Bun.which(name);
  if (built === null) throw new Error(`${name} is missing: scripts/test builds it`);
  const path = join(folder, name);
  copyFileSync(built, path);
  chmodSync(path, 0o755);
  return path;
}
