import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Capture } from '../capture/capture.ts';
import { startCaptureKeeper, type CaptureKeeper } from '../capture/capture-keeper.ts';
import { KeptReturnRoutes } from '../capture/kept-return-routes.ts';
import type { OpenRulesWatch } from '../capture/rules-watch.ts';
import { findSshPorts } from '../capture/ssh-ports.ts';
import { captureSettingsOf, type AgentConfig } from '../config/config.ts';
import type { Directory } from '../directory/directory.ts';
import { SubordinateUsers } from '../subordinate-users/subordinate-users.ts';
import { ReturnRoutes } from '../native/return-routes.ts';

/**
 * Puts the rules of the configuration in force and keeps them there, in step with the services registered on this host. SSH is found where it listens, and where the
 * agent was started from (`SSH_CONNECTION`).
 */
export async function startCapture(options: {
  readonly config: AgentConfig;
  readonly sshConnection: string | undefined;
  readonly agentUid: number;
  readonly capture: Capture;
  readonly openRulesWatch: OpenRulesWatch;
  readonly directory: Directory;
  readonly clock: Clock;
  readonly log: Log;
}): Promise<CaptureKeeper> {
  const { config, sshConnection, agentUid, capture, openRulesWatch, directory, clock, log } = options;
  const users = new SubordinateUsers({ clock, log });
  const sshPorts = await findSshPorts(sshConnection);
  return await startCaptureKeeper({
    capture,
    settings: captureSettingsOf(config, { sshPorts, localPorts: [], agentUid }),
    registered: () => ({
      localPorts: directory.localPorts(),
      transparentPorts: directory.transparentPorts(),
    }),
    userRanges: () => users.ranges,
    watchRegistered: (listener) => directory.watch(listener),
    returnRoutes: new KeptReturnRoutes(new ReturnRoutes(config.capture.transparentId), log),
    openRulesWatch,
    clock,
    log,
  });
}
