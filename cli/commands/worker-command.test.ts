import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { BUILD } from '../version.ts';
import { isReplaced, requireOwnBuild, workerCommand } from './worker-command.ts';

describe('requireOwnBuild()', () => {
  test('takes what workerCommand() gives to a process of the same build', () => {
    const command = workerCommand();
    expect(command.slice(-4)).toEqual(['agent', 'worker', '--build', BUILD]);
    requireOwnBuild(command.at(-1) ?? '');
  });

  test.each(['', 'unknown', BUILD.toUpperCase(), `${BUILD} `, BUILD.slice(0, -1)])('refuses %p', (build) => {
    expect(reasonOf(() => requireOwnBuild(build))).toBe('worker_build_differs');
  });
});

test('isReplaced() tells whether the program of this process stands there still', () => {
  expect(isReplaced(process.execPath)).toBe(false);
  expect(isReplaced('/bin/sh')).toBe(true);
  expect(isReplaced(`${process.execPath} (deleted)`)).toBe(true);
});
