# frozen_string_literal: true

module PuppetX; end unless defined?(PuppetX)
module PuppetX::Distlock; end unless defined?(PuppetX::Distlock)

# How a run has gone: for the locks that protect its resources, and for its postrun_command, which Puppet does not tell.
module PuppetX::Distlock::Outcome
  VARIABLE = 'DISTLOCK_PUPPET_RUN' # of the postrun_command
  DONE = 'done'
  SHOWN = 3 # names in a reason
  LONGEST = 200 # characters of a reason

  # A transaction that notes how it has ended.
  module Noted
    def evaluate(*)
      return super unless catalog.host_config?

      ENV.delete(VARIABLE)
      begin
        result = super
        is_applied = true
        result
      ensure
        PuppetX::Distlock::Outcome.tell(self, is_applied)
      end
    end
  end

  def self.tell(transaction, is_applied)
    why = trouble(transaction, is_applied)
    ENV[VARIABLE] = why.nil? ? DONE : "failed: #{why}"
    protections = transaction.catalog.resources.select { |one| one.is_a?(Puppet::Type.type(:distlock_protect)) }
    protections.each { |one| one.guard.run_is_over(why) }
  end

  # Why the run has failed, nil if it has not.
  def self.trouble(transaction, is_applied)
    failed = transaction.report.resource_statuses.values.select { |status| status.failed? || status.failed_to_restart? }
    return names(failed.map { |status| status.resource.to_s }.sort) unless failed.empty?
    return 'it ended before the whole catalog was applied' unless is_applied

    'the run was told to stop' if Puppet::Application.stop_requested?
  end

  # A title can be a command line, with secrets among its arguments: only its first word is shown.
  def self.names(references)
    shown = references.map { |one| one.sub(%r{\s.*\]\z}m, ' ...]').scrub('?').gsub(%r{[^[:print:]]}, '?') }
    more = shown.length - SHOWN
    (shown.first(SHOWN) + (more.positive? ? ["#{more} more"] : [])).join(', ')[0, LONGEST]
  end

  def self.begin_noting
    Puppet::Transaction.prepend(Noted) unless Puppet::Transaction.ancestors.include?(Noted)
  end
end

PuppetX::Distlock::Outcome.begin_noting
