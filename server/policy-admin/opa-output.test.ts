import { expect, test } from 'bun:test';
import { readErrors } from './opa-output.ts';

const knowsNone = (): boolean => false;

test('a line of OPA tells file, row and what is wrong', () => {
  const { reason, faults } = readErrors(
    'error: policy.rego:3: rego_parse_error: unexpected token\n',
    knowsNone,
  );
  expect(reason).toBe('policy_syntax');
  expect(faults).toEqual([{ file: 'policy.rego', line: 3, message: 'unexpected token' }]);
});

test('a row of more digits than any file has rows is none', () => {
  const line = `policy.rego:${'1'.repeat(400)}: rego_type_error: x`;
  expect(readErrors(line, knowsNone).faults).toEqual([{ file: '', line: 0, message: line }]);
});
