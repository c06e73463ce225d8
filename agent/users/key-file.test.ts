import { mkdtempSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeKeySource } from './contract.ts';
import { KeyFile } from './key-file.ts';

describeKeySource('KeyFile', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'picket-keys-'));
  const path = join(folder, 'keys.json');
  return await Promise.resolve({
    source: new KeyFile(path),
    hold: async (text) =>
      text === undefined ? await rm(path, { force: true }) : await writeFile(path, text),
    [Symbol.asyncDispose]: async () => await rm(folder, { recursive: true }),
  });
});
