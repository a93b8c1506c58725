# frozen_string_literal: true

module PuppetX; end unless defined?(PuppetX)
module PuppetX::Distlock; end unless defined?(PuppetX::Distlock)

# Finds resources that a run would apply without the lock that guards them.
module PuppetX::Distlock::Unguarded
  SHOWN = 3 # names in a message

  # Names in one phrase: a, b and c.
  def self.listed(names)
    [names[0..-2].join(', '), names.last].reject(&:empty?).join(' and ')
  end

  # The applied resources that require a lock which this run excludes.
  def self.by(resource)
    return [] unless left_out?(resource) || resource.noop?

    names(resource.catalog.relationship_graph.dependents(resource))
  end

  # The resources with `noop => false` in a noop run, which does not acquire the lock of whole runs.
  def self.in_noop(catalog)
    Puppet[:noop] ? names(catalog.vertices) : []
  end

  def self.advice(resource)
    return 'let the lock have noop => false too' unless left_out?(resource)

    'add distlock to --tags, or leave --tags and --skip_tags out'
  end

  def self.names(resources)
    found = resources.reject { |one| harmless?(one) }.map(&:ref).sort
    found.length > SHOWN ? found.first(SHOWN) + ["#{found.length - SHOWN} more"] : found
  end

  # Not applied by this run, or a part of the lock itself.
  def self.harmless?(resource)
    return true if ['Whit', 'Component', 'Distlock', 'Distlock_puppet_conf'].include?(resource.class.name.to_s.capitalize)

    resource.noop? || left_out?(resource) || resource.is_a?(Puppet::Type.type(:component))
  end

  def self.left_out?(resource)
    tags, skipped = [:tags, :skip_tags].map { |setting| Puppet[setting].to_s.split(',').map(&:strip).reject(&:empty?) }
    (tags.any? && !resource.tagged?(*tags)) || (skipped.any? && resource.tagged?(*skipped))
  end
end
