import type { AccessRecord } from '../../shared/protocol/audit.ts';

/** Takes access records for good (design: decision 14). */
export interface AccessRecorder {
  /**
   * Appends a record to the durable spool with one write(2), before the request is forwarded or refused. Returns false when it cannot be kept
   * (spool full, disk full, disk gone): the caller must then refuse with reason `audit_unavailable`. It never throws.
   */
  record(record: AccessRecord): boolean;
}
