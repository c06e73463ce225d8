import { describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import { fuzz, tryInput, type FuzzReport } from './engine.ts';
import { listTargets, loadTarget, pathOfTarget } from './registry.ts';
import { endOfSloppyChunks, readSloppily } from './sloppy-http1.ts';
import { supervise } from './supervise.ts';
import { hexWords, words, type FuzzTarget } from './target.ts';

const SEED = 20_261_124;
/** Of each target: all of them together take some 40 s; on a slow machine the time ends some of them. `bun scripts/fuzz.ts` runs as long as asked. */
const ITERATIONS = 1500;
const MIN_ITERATIONS = 100;
const MANY = { seed: SEED, iterations: 200_000, seconds: 60 };

const planted = (name: string): string => join(import.meta.dirname, 'planted', `${name}.ts`);

function show({ finding }: FuzzReport): string | undefined {
  if (finding === undefined) return undefined;
  return `${finding.kind}: ${finding.what}; input ${Buffer.from(finding.input).toString('base64')}`;
}

describe('the parsers', () => {
  for (const name of listTargets())
    test(`${name} keeps its promises for mutated inputs`, async () => {
      const report = await supervise(pathOfTarget(name), { seed: SEED, iterations: ITERATIONS, seconds: 30 });
      expect(show(report)).toBeUndefined();
      expect(report.iterations).toBeGreaterThan(MIN_ITERATIONS);
      // Where everything goes one way, nothing is tested.
      expect(report.outcomes).toBeGreaterThan(2);
    }, 90_000);
});

describe('fuzz()', () => {
  test('finds a length that is trusted, and the input repeats it', async () => {
    const target = await loadTarget(planted('length-field'));
    const { finding } = await fuzz(target, MANY);
    expect(finding).toMatchObject({
      kind: 'exception',
      what: expect.stringContaining('RangeError') as unknown,
    });
    expect(await tryInput(target, finding!.input)).toMatchObject({ kind: 'exception' });
  });

  test('finds a bug behind 24 bits by keeping what went a new way', async () => {
    const { finding } = await fuzz(await loadTarget(planted('deep-word')), MANY);
    expect(finding).toMatchObject({ kind: 'exception', what: expect.stringContaining('planted') as unknown });
  });

  test('tries the same inputs for the same seed, and others for another', async () => {
    const inputsOf = async (seed: number): Promise<string[]> => {
      const inputs: string[] = [];
      const onInput = (input: Uint8Array): unknown => inputs.push(Buffer.from(input).toString('hex'));
      await fuzz(await loadTarget(pathOfTarget('der')), { seed, iterations: 300, seconds: 60, onInput });
      return inputs;
    };
    const first = await inputsOf(1);
    expect(first).toHaveLength(300);
    expect(await inputsOf(1)).toEqual(first);
    expect(await inputsOf(2)).not.toEqual(first);
  });

  test('takes a PicketError for a refusal, and no other exception', async () => {
    const throwing = (error: Error): FuzzTarget => ({
      seeds: words('a'),
      dictionary: [],
      maxBytes: 4,
      check: () => {
        throw error;
      },
    });
    const refusal = new PicketError('invalid_argument', 'bad', 'Cannot read "x": 12 bytes');
    expect(await tryInput(throwing(refusal), Buffer.from('a'))).toBe('bad: Cannot read "": N bytes');
    expect(await tryInput(throwing(new RangeError('x')), Buffer.from('a'))).toMatchObject({
      kind: 'exception',
    });
  });

  test('finds what takes too long, grows too much, or changes its input', async () => {
    const limits = { maxMs: 20, maxGrowthBytes: 64 << 20 };
    const held: Uint8Array[] = [];
    const kindOf = async (check: FuzzTarget['check']): Promise<unknown> => {
      const target: FuzzTarget = { seeds: hexWords('00'), dictionary: [], maxBytes: 1, check };
      const { finding } = await fuzz(target, { seed: 1, iterations: 1, seconds: 60, limits });
      return finding?.kind;
    };
    expect(await kindOf(() => 'fine')).toBeUndefined();
    expect(
      await kindOf(() => {
        for (const startedMs = performance.now(); performance.now() - startedMs < 40;);
        return 'slow';
      }),
    ).toBe('slow');
    expect(
      await kindOf(() => {
        held.push(new Uint8Array(160 << 20).fill(1));
        return 'large';
      }),
    ).toBeOneOf(['memory', 'slow']);
    expect(await kindOf((input) => `${input.fill(7).length}`)).toBe('exception');
  });
});

describe('supervise()', () => {
  test('tells the input at which a parser does not end', async () => {
    const report = await supervise(planted('endless'), { ...MANY, hangMs: 1000 });
    expect(report.finding).toMatchObject({ kind: 'hang' });
    expect(report.finding?.input[0]).not.toBe(1);
  });

  test('tells the input at which the process crashed', async () => {
    const report = await supervise(planted('crash'), MANY);
    expect(report.finding).toMatchObject({ kind: 'crash', what: expect.stringContaining('SIG') as unknown });
    expect(report.finding?.input[0]).not.toBe(1);
  });
});

describe('scripts/fuzz.ts', () => {
  const run = async (...args: string[]): Promise<{ code: number; output: string }> => {
    const script = join(import.meta.dirname, '..', '..', 'scripts', 'fuzz.ts');
    const child = Bun.spawn([process.execPath, script, ...args], { stdout: 'pipe', stderr: 'pipe' });
    const output = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
    return { code: await child.exited, output };
  };

  test('lists the targets, runs one, and tries one input', async () => {
    expect((await run('--list')).output.trim().split('\n')).toEqual([...listTargets()]);
    const one = await run('--only', 'selector', '--seed', '5', '--iterations', '50');
    expect(one).toMatchObject({
      code: 0,
      output: expect.stringContaining('seed 5\nok     selector') as unknown,
    });
    const input = Buffer.from('unix:uid:1').toString('base64');
    expect(await run('--only', 'selector', '--input', input)).toEqual({ code: 0, output: 'ok short type\n' });
    expect((await run('--only', 'nothing')).code).toBe(2);
  });
});

describe('readSloppily()', () => {
  test('reads what smugglers write, as careless programs do', () => {
    const head = 'POST / HTTP/1.1\nHost: a\r\n';
    const endOf = (text: string): number | undefined => readSloppily(Buffer.from(text))[0]?.end;
    const chunks = '5\r\nhello\r\n0\r\n\r\n';
    for (const field of [
      'Transfer-Encoding : chunked',
      'transfer_encoding: x, chunked',
      'Transfer-Encoding:\vchunked',
    ])
      expect(endOf(`${head}${field}\r\n\r\n${chunks}rest`)).toBe(
        head.length + field.length + 4 + chunks.length,
      );
    expect(endOf(`${head}Content-Length: 5x\r\n\r\nhelloGET`)).toBe(
      head.length + 'Content-Length: 5x'.length + 4 + 5,
    );
    expect(endOfSloppyChunks(Buffer.from('5 ;x\nhello\n0\n\nrest'), 0)).toBe(14);
  });
});
