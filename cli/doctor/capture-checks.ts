import type { StatusAnswer } from '../../agent/admin/admin-answers.ts';
import { findEphemeralPorts, type EphemeralSettings } from '../../agent/capture/ephemeral-ports.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import { checkerOf, firstOf, when, type Check } from './check.ts';

const check = checkerOf('agent');

const CAPTURE_ADVICE =
  'find who does it: nftables.service, a firewall manager, a script that runs nft flush ruleset';

/** The rules, or programs, of capture. */
export function checkCapture({ capture }: StatusAnswer): Check {
  const { mode, isIntact, repairs, isWatched, isContested, changedBy } = capture;
  const last = changedBy === undefined ? '' : `, the last time ${changedBy}`;
  return check(
    'capture',
    `by ${mode}: all is in the kernel, and nobody has changed it`,
    when(
      mode === 'off',
      'warn',
      'the agent does not keep the rules: capture.enabled is false',
      'set capture.enabled to true, or look after the rules yourself: picket agent capture show',
    ),
    when(
      isContested,
      'fail',
      `somebody takes the rules away again and again, ${repairs} times since the agent started${last}: in between traffic passes WITHOUT Picket`,
      CAPTURE_ADVICE,
    ),
    when(
      !isIntact,
      'fail',
      'the rules in the kernel are not the agent’s',
      'the agent’s log: capture_failed, capture_rules_changed',
    ),
    when(
      repairs > 0,
      'warn',
      `somebody changed or flushed the rules ${repairs} times since the agent started${last}; they were put back`,
      CAPTURE_ADVICE,
    ),
    when(
      mode !== 'off' && !isWatched,
      'warn',
      'changes of the rules are not heard of at once, only found every 5 s',
      'the agent’s log: capture_watch_failed',
    ),
  );
}

/** Nothing where no listener of the host asks for connections from callers' addresses. */
export function checkReturnPath({ capture }: StatusAnswer): readonly Check[] {
  const { transparentPorts, transparentLeftAlone, returnPath, mode } = capture;
  if (transparentPorts.length + transparentLeftAlone.length === 0) return [];
  const { isInForce = false, repairs = 0, failure = 'it is not there' } = returnPath ?? {};
  return [
    check(
      'transparent',
      `what answers at ${transparentPorts.join(', ')} to callers’ addresses comes back`,
      when(
        mode === 'off',
        'fail',
        'connections from callers’ addresses are refused: the agent does not keep the rules',
        'set capture.enabled to true, or register the listeners without /transparent',
      ),
      when(
        transparentLeftAlone.length > 0,
        'fail',
        `connections from callers’ addresses to ${transparentLeftAlone.join(', ')} are refused: the rules leave these ports alone`,
        'take them out of capture.exclude.inbound_ports, keep off the agent’s own ports, or register them without /transparent',
      ),
      when(
        !isInForce,
        'fail',
        `connections from callers’ addresses are refused: ${failure}`,
        'the agent’s log: return_routes_failed; ip rule, ip -6 rule',
      ),
      when(
        repairs > 0,
        'warn',
        `somebody took the routing rule or its table away ${repairs} times since the agent started; they were put back`,
        'find who does it: a network manager that removes rules it does not know (systemd-networkd: ManageForeignRoutingPolicyRules=no)',
      ),
    ),
  ];
}

/** Nothing where no listener of the host asks for connections from callers' addresses. */
export function checkEphemeralPorts(
  { capture: { transparentPorts } }: StatusAnswer,
  settings: EphemeralSettings | PicketError,
): readonly Check[] {
  if (transparentPorts.length === 0) return [];
  if (settings instanceof PicketError)
    return [check('ephemeral ports', '', ['warn', `cannot tell: ${settings.message}`, 'run it as root'])];
  const met = findEphemeralPorts(transparentPorts, settings);
  const [listed, range] = [met.join(', '), settings.range.trim().split(/\s+/).join('-')];
  return [
    check(
      'ephemeral ports',
      `the kernel takes none of ${transparentPorts.join(', ')} for what goes out`,
      when(
        met.length > 0,
        'warn',
        `${listed}: the kernel takes ports for what goes out from ${range}; a connection that gets one of a listener with /transparent, while nobody listens there, is refused`,
        `sysctl net.ipv4.ip_local_reserved_ports=${met.join(',')}, beside what is reserved already, or have the programs listen elsewhere`,
      ),
    ),
  ];
}

/** Nothing where the host's own network namespace is captured alone. */
export function checkNamespaces({ namespaces, namespacesBeyond }: StatusAnswer): readonly Check[] {
  const beyond = Object.entries(namespacesBeyond);
  if (namespaces.length + beyond.length === 0) return [];
  const captured = namespaces.filter(({ state }) => state === 'captured');
  const named = (those: typeof namespaces): string => firstOf(those.map(({ name }) => name));
  const failed = namespaces.filter(({ state }) => state === 'failed');
  const changed = captured.filter(({ isIntact, repairs }) => !isIntact || repairs > 0);
  const absent = namespaces.length - captured.length - failed.length;
  return [
    check(
      'namespaces',
      `${captured.length} captured, ${absent} not there`,
      when(
        failed.length > 0,
        'fail',
        `cannot be captured, so that nothing of them passes: ${named(failed)}: ${failed[0]?.why}`,
        'the agent’s log: namespace_not_captured',
      ),
      when(
        beyond.length > 0,
        'fail',
        `too many, so that nothing of the others passes: ${beyond.map(([label, count]) => `${count} of ${label}`).join(', ')}`,
        'raise most in capture.namespaces, or find who makes so many',
      ),
      when(
        changed.length > 0,
        'warn',
        `somebody changed the rules within: ${named(changed)}`,
        'find who has CAP_NET_ADMIN there; what gets past the rules is refused by those of the host',
      ),
    ),
  ];
}
