# frozen_string_literal: true

require 'time'
require_relative '../../../puppet_x/distlock/command' unless defined?(PuppetX::Distlock::Command)
require_relative '../../../puppet_x/distlock/unguarded' unless defined?(PuppetX::Distlock::Unguarded)

Puppet::Type.type(:distlock).provide(:cli) do
  desc <<~DOC
    Reads the locks with `distlock --json`, and acquires and releases them with `distlock-puppet`. Arguments go over
    standard input, so nothing of them appears in a process list, and no shell interprets them.

    If Puppet ends while it waits for the lock, its place in the queue is given up.
  DOC

  mk_resource_methods

  BUSY = ['busy', 'timeout', 'frozen', 'not_holder'].freeze

  # All locks of the realm in the node's configuration.
  def self.instances
    found = PuppetX::Distlock::Command.ask('distlock', ['--json', '--list'])['locks']
    found.group_by { |lock| lock['lock'] }.map { |name, holds| new(description(name, holds)) }
  rescue PuppetX::Distlock::Refused => e
    raise Puppet::Error, e.message
  end

  def self.description(name, holds)
    hold = holds.find { |one| one['owner'] == default_owner } || holds.first
    described = {
      name: name,
      ensure: state(hold),
      held_by: holds.map { |one| one['owner'] }.compact.join(', '),
      held_since: hold['since'] && Time.at(hold['since']).iso8601,
      held_reason: hold['reason'],
      lifetime: hold['lifetime'],
      token: hold['token'],
      waiting: hold['waiting'],
    }
    described.reject { |_, value| value.nil? || value == '' }
  end

  def self.state(hold)
    return :unlocked if hold['token'].nil?
    return :cooling if hold['state'] == 'cooling'

    hold['owner'] == default_owner && hold['state'] == 'held' ? :locked : :held
  end

  def self.default_owner
    "puppet:#{Puppet[:certname]}"
  end

  # For `puppet resource distlock NAME`: the present state of the lock.
  def show
    names = resource.locks.map { |name| "--lock-name=#{name}" }
    holds = PuppetX::Distlock::Command.ask('distlock', ['--json', '--show', *names])['locks']
    @property_hash = self.class.description(resource[:name], holds)
    @property_hash[:ensure]
  rescue PuppetX::Distlock::Refused => e
    raise Puppet::Error, e.message
  end

  # A longer description of the state for the property, if there is one.
  attr_reader :seen

  # Description of the change, for the report.
  attr_reader :done

  # Present state of the lock for a wanted state: locked (by this owner), unlocked, held (by another) or cooling.
  #
  # @raise [Puppet::Error] if the state cannot be read
  def look(wanted)
    planned = resource.noop? ? plans.values_at(*plan_keys).uniq : []
    found = (planned.length == 1 && planned.first) || look_now(wanted)
    plan_keys.each { |key| plans[key] = wanted } if resource.noop? && found != wanted && @refused.nil?
    found
  ensure
    leave if resource.noop? || found.nil? || found == wanted || @refused
  end

  def lock
    Puppet.notice("#{resource.ref}: waits for its turn: #{@waits}") unless @waits.to_s.empty?
    answer = change(:locked)
    tokens = holds(answer).map { |hold| hold['token'] }.uniq
    story = answer.dig('waited', 'story')
    waited = story.nil? ? '' : ", #{story}"
    how = answer['before'].nil? ? 'locked' : "taken over from this owner's run that has ended, locked"
    ends = run_end? ? ', until this run ends' : ''
    token = "token#{'s' if tokens.length > 1} #{tokens.join(' and ')}"
    @done = "#{resource.lock} #{are(resource.locks)} #{how} by #{answer['owner']}, #{token}#{ends}#{waited}"
  end

  def unlock
    answer = change(:unlocked)
    ended = holds(answer)
    owners = ended.map { |hold| hold['owner'] || 'an unknown owner' }.uniq.join(' and ')
    names = ended.length > 1 ? PuppetX::Distlock::Unguarded.listed(ended.map { |hold| hold['lock'] }) : resource.lock
    later = resource[:cooldown].nil? ? '' : " in #{resource[:cooldown]} s"
    was = ended.length > 1 ? 'were' : 'was'
    @done = "#{names}, which #{was} held by #{owners}, #{are(ended)} unlocked#{later}"
  end

  # Keeps the lock, or releases and freezes it, after a failure.
  #
  # @param how keep or freeze
  def end_failed(how, why)
    request = { want: 'failed', owner: self.class.default_owner, run: Process.pid, failed: why, settings: settings.merge(on_failure: how) }
    PuppetX::Distlock::Command.ask('distlock-puppet', ['resource'], request: request)
  rescue PuppetX::Distlock::Refused => e
    raise Puppet::Error, e.message
  end

  private

  def look_now(wanted)
    leave
    @refused = @seen = @waits = nil
    answer = ask(wanted, dry_run: true)
    return of_unlocked(answer) if wanted == :unlocked

    @waits = answer['waits']
    @seen = "unlocked (it would wait first: #{@waits})" unless @waits.empty?
    answer['changed'] ? :unlocked : :locked
  rescue PuppetX::Distlock::Refused => e
    return not_installed(e) if e.kind == 'missing' && resource.noop? && installed_first?
    raise Puppet::Error, e.message unless BUSY.include?(e.kind)

    @refused = e
    @seen = e.message
    :held
  end

  # A first noop run installs nothing, so the state that a real run would find is unknown.
  def not_installed(refused)
    @seen = "unlocked, as far as can be told: #{refused.message}"
    :unlocked
  end

  def installed_first?
    !resource.catalog.nil? && !resource.catalog.resource('Class[Distlock]').nil?
  end

  def of_unlocked(answer)
    around = answer['around']
    unless around.nil?
      resource.notice("#{resource.lock} is left to the command around this run, which holds it as #{around['owner']}")
      return :unlocked
    end
    found = holds(answer)
    return :unlocked if found.empty?
    return :cooling if found.all? { |hold| hold['state'] == 'cooling' }

    others = found.reject { |hold| hold['owner'] == answer['owner'] && hold['state'] == 'held' }
    return :locked if others.empty?

    @seen = "held by #{others.first['owner'] || 'an unknown owner'}"
    :held
  end

  # The holds of an answer, one for each lock.
  def holds(answer)
    answer['holders'] || [answer['holder']].compact
  end

  def are(things)
    things.length > 1 ? 'are' : 'is'
  end

  def change(wanted)
    ask(wanted)
  rescue PuppetX::Distlock::Refused => e
    raise Puppet::Error, e.message
  ensure
    leave
  end

  # The process that has looked makes the change too, if Puppet asks for one.
  def leave
    @conversation&.close
  ensure
    @conversation = nil
  end

  def ask(wanted, dry_run: false)
    request = {
      want: wanted,
      owner: self.class.default_owner,
      run: Process.pid,
      bound: run_end?,
      force: resource[:force] ? true : false,
      dry_run: dry_run,
      more: dry_run,
      settings: settings,
    }
    @conversation ||= PuppetX::Distlock::Conversation.new('distlock-puppet', ['resource'])
    @conversation.ask(request)[wanted.to_s]
  end

  def run_end?
    resource[:until] == :run_end
  end

  def settings
    words = [:reason, :timeout, :ttl, :on_loss, :slots, :shared, :window, :expect, :rank, :cooldown, :prefix, :config,
             :connect_timeout, :gate, :gate_timeout, :gate_every, :gate_for]
    given = words.to_h { |word| [word, resource[word]] }
    names = resource.locks.length > 1 ? { lock_names: resource.locks } : { lockname: resource.locks.first }
    given.merge(**names, id: resource[:owner], endpoints: urls).compact
  end

  def urls
    resource[:endpoints] && Array(resource[:endpoints]).join(',')
  end

  def plan_keys
    resource.locks.map { |name| [name, resource[:owner], resource[:prefix], resource[:config], urls] }
  end

  # The planned locks of a noop run: later resources of the catalog find them as a real run would have left them.
  def plans
    catalog = resource.catalog
    return {} if catalog.nil?

    catalog.instance_variable_get(:@distlock_plans) || catalog.instance_variable_set(:@distlock_plans, {})
  end
end
