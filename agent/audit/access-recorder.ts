import type { AccessRecord } from '../../shared/protocol/audit.ts';
import type { RecordBatch } from './record-batch.ts';

/** Takes access records for good. Nothing here throws. */
export interface AccessRecorder {
  /**
   * Appends a record to the durable spool, before the request is forwarded or refused. Returns false when it cannot be kept (spool full, disk full, disk gone; or,
   * of a denial, no room but what is left to what is allowed): the caller must then refuse with reason `audit_unavailable`.
   */
  record(record: AccessRecord): boolean;
  /**
   * Takes a record, as JSON text, that `commit` will write together with others. Nothing of what it stands for may be forwarded before its batch is kept. Returns undefined
   * when it cannot be kept, as `record` does.
   */
  add(text: string): RecordBatch | undefined;
  /** Writes what was added with one write(2). The batch tells whether that was kept; what was not never will be. */
  commit(): void;
}
