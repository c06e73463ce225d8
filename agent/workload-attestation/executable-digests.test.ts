import { afterAll, describe, expect, test } from 'bun:test';
import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../shared/runtime/clock.ts';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { ExecutableDigests, openExecutable } from './executable-digests.ts';

const folder = mkdtempSync(join(tmpdir(), 'picket-digests-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('ExecutableDigests.digest()', () => {
  test('hashes files of every size about its chunks, many at a time', async () => {
    const digests = new ExecutableDigests({ maxBytes: 1024 * 1024, clock: systemClock });
    const chunk = 256 * 1024;
    const sizes = [0, 1, chunk - 1, chunk, chunk + 1, 4 * chunk];
    const found = await Promise.all(
      sizes.map(async (size) => {
        const path = join(folder, `size-${size}`);
        const bytes = randomBytes(size);
        writeFileSync(path, bytes);
        const file = await open(path);
        try {
          return [await digests.digest(file), createHash('sha256').update(bytes).digest('hex')];
        } finally {
          await file.close();
        }
      }),
    );
    for (const [digest, expected] of found) expect(digest).toBe(expected ?? '');
  });

  test('refuses a file above the limit, by its size alone', async () => {
    const digests = new ExecutableDigests({ maxBytes: 9, clock: systemClock });
    const path = join(folder, 'ten');
    writeFileSync(path, '0123456789');
    const file = await open(path);
    const refusal = await refusalOf(digests.digest(file));
    await file.close();
    expect(refusal).toMatchObject({ code: 'resource_exhausted', reason: 'executable_too_large' });
  });

  test('gives up a file that does not answer, and goes on with the next', async () => {
    const clock = new FakeClock();
    const digests = new ExecutableDigests({ maxBytes: 1024, clock });
    const path = join(folder, 'next');
    writeFileSync(path, 'next');
    const silent = await open(path);
    // As a network file system whose server is away.
    Object.defineProperty(silent, 'read', { value: () => Promise.withResolvers().promise });
    const late = refusalOf(digests.digest(silent));
    await waitUntil('it is being read', () => clock.pending === 1);
    const file = await open(path);
    const next = digests.digest(file);
    clock.advance(10_001);
    expect(await late).toMatchObject({ code: 'deadline_exceeded', reason: 'digest_timeout' });
    expect(await next).toBe(createHash('sha256').update('next').digest('hex'));
    await Promise.all([file.close(), silent.close()]);
  });

  test('refuses a file that is written to while it is read', async () => {
    const path = join(folder, 'growing');
    writeFileSync(path, randomBytes(512 * 1024));
    const file = await open(path);
    const digests = new ExecutableDigests({ maxBytes: 1024 * 1024, clock: systemClock });
    const read = file.read.bind(file);
    let reads = 0;
    Object.defineProperty(file, 'read', {
      value: async (buffer: Buffer, offset: number, length: number, position: number) => {
        if (++reads === 2) appendFileSync(path, 'more');
        return await read(buffer, offset, length, position);
      },
    });
    const refusal = await refusalOf(digests.digest(file));
    await file.close();
    expect(refusal).toMatchObject({ code: 'failed_precondition', reason: 'executable_changed' });
  });
});

test('openExecutable() opens nothing of a process that has ended', async () => {
  expect(await openExecutable(4_194_305)).toBeUndefined();
});
