# frozen_string_literal: true

module PuppetX; end unless defined?(PuppetX)
module PuppetX::Distlock; end unless defined?(PuppetX::Distlock)

# The lock of a `distlock_protect`: acquired right before the first change of a protected resource.
#
# Puppet changes a resource by calling `sync` of each property that is out of sync, and `refresh` after a notification. Both
# are preceded here, on the protected resources only, by the acquisition. If that is refused, the change fails, as it
# would by an error of its own.
class PuppetX::Distlock::Guard
  WORDS = [:reason, :timeout, :owner, :ttl, :on_loss, :slots, :shared, :window, :expect, :rank, :cooldown, :endpoints,
           :prefix, :config, :connect_timeout, :gate, :gate_timeout, :gate_every, :gate_for].freeze
  # What does not go with each.
  FOR = {
    locked: [:cooldown],
    unlocked: [:reason, :timeout, :ttl, :on_loss, :slots, :shared, :window, :expect, :rank],
  }.freeze

  # Description of the last change, for the report.
  attr_reader :done

  def initialize(resource)
    @resource = resource
    @taken = false
    @refused = nil
  end

  # Protects a resource, and what it generates while it is evaluated (the files of a recursive one).
  def protect(resource)
    resource.extend(Protected)
    resource.distlock_guards << self unless resource.distlock_guards.include?(self)
    resource.extend(Refreshed) if resource.respond_to?(:refresh)
    resource.extend(Generating) if resource.respond_to?(:eval_generate)
  end

  # Acquires the lock, or all of several, unless this run has. Once refused, it is refused for the rest of the run, without another wait.
  #
  # @raise [Puppet::Error]
  def acquire
    raise Puppet::Error, @refused unless @refused.nil?
    return if @taken

    provider = distlock(:locked).provider
    if provider.look(:locked) == :locked
      @resource.notice("#{@resource.lock} #{@resource.locks.length > 1 ? 'are' : 'is'} already held by this node")
    else
      provider.lock
      @resource.notice(provider.done)
    end
    @taken = true
  rescue Puppet::Error => e
    @refused ||= e.message
    raise
  end

  # Whether the lock has to be released: it was acquired in this run, or in an earlier one that has failed.
  def held?
    distlock(:unlocked).provider.look(:unlocked) == :locked
  rescue Puppet::Error => e
    raise if @taken

    @resource.warning("unknown whether #{@resource.lock} #{@resource.locks.length > 1 ? 'are' : 'is'} still held from an earlier run: #{e.message}")
    false
  end

  def release
    provider = distlock(:unlocked).provider
    provider.unlock
    @taken = false
    @done = provider.done
  end

  # Called at the end of the run. If its lock was not released, it stops everybody, as `on_failure` says.
  #
  # @param trouble why the run has failed, nil if it has not
  def run_is_over(trouble)
    return if !@taken || @resource[:on_failure].nil?

    stop_all(distlock(:unlocked).provider, trouble || "#{@resource.lock} was not released")
  rescue StandardError => e
    @resource.err("#{@resource.lock}: #{e.message}")
  end

  private

  def stop_all(provider, trouble)
    frozen = @resource[:on_failure].to_s == 'freeze'
    provider.end_failed(@resource[:on_failure].to_s, "#{trouble}#{" (#{@resource[:reason]})" if @resource[:reason]}")
    @resource.warning("#{@resource.lock} is #{frozen ? 'frozen' : 'left taken'} for a person to look at")
  end

  # A resource of the type `distlock`, in no catalog.
  def distlock(wanted)
    words = (WORDS - FOR[wanted]).to_h { |word| [word, @resource[word]] }.compact
    words[:until] = @resource[:until] if wanted == :locked
    Puppet::Type.type(:distlock).new(name: @resource.lock, lock_names: @resource.locks, ensure: wanted, noop: false, **words)
  end

  # A resource whose changes need the lock.
  module Protected
    def distlock_guards
      @distlock_guards ||= []
    end

    # Called right before its properties are compared. A file adds some of them in here, with the values of its source.
    def retrieve_resource
      found = super
      properties.each { |property| property.extend(Changed) }
      found
    end
  end

  # A property whose change needs the lock.
  module Changed
    def sync
      resource.distlock_guards.each(&:acquire)
      super
    end
  end

  # A resource whose refresh needs the lock, unless it would do nothing.
  module Refreshed
    def refresh
      distlock_guards.each(&:acquire) if !respond_to?(:check_all_attributes) || check_all_attributes(true)
      super
    end
  end

  # A resource that generates others.
  module Generating
    def eval_generate
      super.each { |generated| distlock_guards.each { |guard| guard.protect(generated) } }
    end
  end
end
