import { describe, expect, test } from 'bun:test';
import { buildPolicy } from '../../tests/kit/build-policy.ts';
import { createOpaWasmLoader } from './opa-wasm.ts';
import { readInput } from './read-input.ts';

const INPUT = JSON.parse(
  '{"caller": {"path": "/web", "address": "10.0.0.1"}, "request": {"path": "/a", "parsed_path": ["a", "b"], "headers": {"__proto__": "x", "accept": "y"}}, "user": null}',
) as Readonly<Record<string, unknown>>;

/** As the policy's module is told of it. */
function told(...reads: readonly (readonly string[])[]): unknown {
  const before = JSON.stringify(INPUT);
  const text = JSON.stringify(readInput(INPUT, reads));
  expect(JSON.stringify(INPUT)).toBe(before);
  return JSON.parse(text);
}

describe('readInput()', () => {
  test('takes what is read, and nothing else', () => {
    expect(told(['caller', 'path'], ['request', 'parsed_path'])).toEqual({
      caller: { path: '/web' },
      request: { parsed_path: ['a', 'b'] },
    });
    expect(told()).toEqual({});
  });

  test('takes a whole that is read beside its parts, in any order', () => {
    const [whole, part] = [['caller'], ['caller', 'path']];
    for (const reads of [
      [whole, part],
      [part, whole],
    ])
      expect(told(...reads)).toEqual({ caller: INPUT['caller'] });
    expect(told(['caller', 'path'], [])).toEqual(INPUT);
  });

  test('takes an array as a whole, and names that are none of its own not at all', () => {
    expect(told(['request', 'parsed_path', '0'])).toEqual({ request: { parsed_path: ['a', 'b'] } });
    expect(told(['user', 'id'], ['caller', 'toString'], ['absent', 'x'])).toEqual({ user: null, caller: {} });
  });

  test('takes a header of any name', () => {
    expect(JSON.stringify(readInput(INPUT, [['request', 'headers', '__proto__']]))).toBe(
      '{"request":{"headers":{"__proto__":"x"}}}',
    );
  });
});

test('evaluate() of a policy that says what it reads takes no longer for a long query that it does not read', async () => {
  const rego = 'package picket.authz\n\ndefault allow := false\n\nallow if input.request.method == "GET"\n';
  const reads = [['request', 'method']];
  const engine = await createOpaWasmLoader().load(buildPolicy({ rego, reads }));
  const inputOf = (query: string) => ({ request: { method: 'GET', query }, parsed_query: { [query]: [''] } });
  const [short, long] = [inputOf('a'), inputOf('\0'.repeat(2_000_000))];
  const measure = (input: typeof short): number => {
    const times = Array.from({ length: 21 }, () => {
      const startedMs = performance.now();
      expect(engine.evaluate('picket/authz/allow', input, 0)).toBe(true);
      return performance.now() - startedMs;
    });
    return times.toSorted((a, b) => a - b)[10] ?? Infinity;
  };
  measure(short);
  expect(measure(long)).toBeLessThan(measure(short) + 20);
});
