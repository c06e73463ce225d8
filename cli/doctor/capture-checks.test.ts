import { expect, test } from 'bun:test';
import { buildStatus } from '../../agent/admin/status.ts';
import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import { startingAgentState } from '../../tests/kit/agent-state.ts';
import { checkEphemeralPorts } from './capture-checks.ts';

const SETTINGS = { range: '32768\t60999\n', reserved: '\n' };

function withPorts(...transparentPorts: readonly number[]): StatusAnswer {
  const status = buildStatus(startingAgentState());
  return { ...status, capture: { ...status.capture, transparentPorts: [...transparentPorts] } };
}

test('checkEphemeralPorts() warns of listeners at ports that the kernel takes for what goes out', () => {
  const [check] = checkEphemeralPorts(withPorts(8080, 40_000, 40_001), SETTINGS);
  expect(check).toMatchObject({ area: 'agent', name: 'ephemeral ports', outcome: 'warn' });
  expect(check?.found).toStartWith(
    '40000, 40001: the kernel takes ports for what goes out from 32768-60999;',
  );
  expect(check?.advice).toContain('net.ipv4.ip_local_reserved_ports=40000,40001');
});

test('checkEphemeralPorts() finds nothing where they lie elsewhere or are reserved, and is not there without any', () => {
  expect(checkEphemeralPorts(withPorts(8080), SETTINGS)).toMatchObject([{ outcome: 'ok' }]);
  const reserved = { ...SETTINGS, reserved: '39000-41000' };
  expect(checkEphemeralPorts(withPorts(40_000), reserved)).toMatchObject([{ outcome: 'ok' }]);
  expect(checkEphemeralPorts(withPorts(), SETTINGS)).toEqual([]);
});

test('checkEphemeralPorts() says that it cannot tell', () => {
  const failure = new PicketError('internal', 'unexpected', 'EACCES');
  expect(checkEphemeralPorts(withPorts(8080), failure)).toMatchObject([{ outcome: 'warn' }]);
});
