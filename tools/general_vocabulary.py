"""Make ``general.txt`` from a WordNet 3.0 folder: nouns and adjectives of things that can be seen.

Usage: python -m tools.general_vocabulary /usr/share/wordnet

A noun is taken when it names something visible (its lexicographer file, or a subtree of another),
when that is what the word usually means (its first sense, or one that is often tagged), and when it
is in use: it stands in WordNet's own definitions and examples, or was tagged in its corpora,
often enough for its kind. Words with capitals go, except a place adjective before a common noun
("french bulldog"), and so do instances, generic words, coarse words, and words of the inner body.

Beside each word stand its parents: the words for the nearest meanings above its own that were taken
too. A word of our own has parents if it is a noun first of all: "round" is no kind of ammunition.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "assets" / "vocabularies" / "general.txt"
HEADER = """\
# General vocabulary: visual nouns, materials, colours, textures, parts, scenes and shapes.
# Source: WordNet 3.0, selected by tools/general_vocabulary.py, with some words of our own there;
# parents are its links from a noun to what it is a kind of (docs/tables.md).
# Licence: WordNet 3.0 licence, Copyright 2006 by Princeton University; see WORDNET-LICENCE.txt.
"""

ANIMAL, ARTEFACT, BODY, FOOD, OBJECT, PLANT, SHAPE = 5, 6, 8, 13, 17, 20, 25

# Least score (see `_score`) of a word of each kind; obscure kinds need more.
LEAST_SCORE = {
    ANIMAL: 0.9,
    ARTEFACT: 0.9,
    BODY: 2.3,
    FOOD: 0.9,
    OBJECT: 1.0,
    PLANT: 1.05,
    SHAPE: 1.0,
}

# Subtrees of other lexicographer files: (first word, sense number) of the root, and least score.
SUBTREES = {
    ("chromatic_color", 1): 0.0,
    ("achromatic_color", 1): 0.0,
    ("coloration", 1): 0.6,
    ("texture", 2): 0.6,
    ("atmospheric_phenomenon", 1): 1.1,
    ("material", 1): 1.0,
    ("rock", 2): 1.0,
    ("metallic_element", 1): 1.6,
    ("alloy", 1): 1.2,
    ("paper", 1): 1.0,
    ("wood", 1): 1.0,
    ("gem", 2): 0.6,
    ("liquid", 1): 1.6,
    ("fuel", 1): 1.4,
    ("waste", 1): 1.4,
    ("soil", 2): 1.0,
    ("sport", 1): 0.9,
    ("dancing", 1): 1.2,
    ("body_of_water", 1): 0.6,
    ("tract", 1): 0.6,
    ("urban_area", 1): 0.9,
    ("flag", 1): 0.6,
}

# Nothing below these is a label: drugs, taxa, chemicals, and what is too small or within the body.
EXCLUDED_SUBTREES = (
    ("drug", 1), ("taxonomic_group", 1), ("chemical_element", 1), ("acid", 1), ("protein", 1),
    ("enzyme", 1), ("hormone", 1), ("artery", 1), ("vein", 1), ("nerve", 1),
    ("neural_structure", 1), ("molecule", 1), ("particle", 2), ("ion", 1),
    ("subatomic_particle", 1), ("microorganism", 1), ("radiation", 1), ("energy", 1),
    ("software", 1), ("computer_file", 1), ("music", 1), ("secretion", 2), ("vitamin", 1),
    ("explosive", 1), ("musculus", 1), ("gland", 1), ("nucleus", 1), ("antigen", 1),
    ("isotope", 1), ("ester", 1), ("medium_of_exchange", 1), ("way", 6),
    ("biological_process", 1), ("physical_property", 1), ("organic_compound", 1),
    ("neuron", 1), ("artificial_language", 1), ("written_communication", 1),
    ("indication", 1), ("ligament", 1), ("chemical_phenomenon", 1),
    ("electrical_phenomenon", 1), ("compound", 2), ("network", 2),
    ("administrative_district", 1), ("angle", 1), ("medicine", 2), ("chemical", 1),
    ("wind", 1), ("electronic_database", 1), ("magnetic_field", 1), ("orbit", 1),
    ("solution", 1), ("fault", 4), ("sale", 1), ("circuit", 1), ("fetus", 1),
    ("vertebrate_genus", 1), ("molecular_formula", 1),
)  # fmt: skip

# True of too much, or of nothing that can be seen.
GENERIC = """
aid appliance arrangement article artifact artefact assembly base block body commodity component
computer_network construction consumer_goods contents contrivance covering creation creature
decker device display_system durables effect equipment essential establishment excess extra
facility fixture formation furnishing gear good goods grade hardware implement indicator input
installation instrument instrumentality instrumentation invention item junk line link lot machine
machinery making material matter means mechanism medium merchandise object opening operation organ
organism paraphernalia part part_of_the_body piece place plant_part point process product
production property range region resource result round rig section security sector segment series
set site something sort source space stock structure stuff substance supply support surface system
thing thing_of_value tool top trap unit utility variety vehicle way ware whole work works
animal_product body_part external_body_part animate_thing living_thing natural_object
natural_phenomenon physical_phenomenon plant_organ mixture compound solution agent solid liquid
fluid element chemical fuel atom activator adhesive_agent additive chemical_compound byproduct
by-product derivative essence ingredient fixings foodstuff foodstuffs comestible edible eatable
victual victuals nutrient nutriment nourishment nutrition aliment sustenance alimentation fare
provisions delicacy course helping serving portion miscellany remains remainder leftovers male
female young offspring mate adult stranger world universe cosmos macrocosm nature earth ground
location position direction end side middle center centre inside outside interior exterior bottom
left right front back rear edge extremity boundary bound limit district territory area zone layer
level stage storey tract parcel domain plot plane form shape figure attribute configuration
contour distribution void blank hole gap mass lump deposit sediment building_block effort
body_structure anatomical_structure complex_body_part tissue cell gene zygote phenomenon
consequence aftereffect aftermath outcome force power electricity current voltage charge gravity
inertia momentum pressure attraction suction stress tension resistance magnetism circuit fortune
chance luck fate destiny opportunity market pole north south east west hemisphere meridian
latitude longitude equator horizon here there hell heaven paradise limbo eden utopia address home
country land state nation kingdom empire colony province county commonwealth dominion republic
capital birthplace bases resort depth height width breadth length head_of_state stop connection
connexion connecter connector connective attachment restraint constraint barrier product_line bait
feature hold keep key lead lift light mean measure model mold mould movement net notion odds
number outfit output press print record release relief reproduction copy replica representation
retreat scale score service sham signal sound spread stand standard step strike tackle take title
trace track transmission transport trial type version view weight zero cut draw drop drive fall
feed fire fly kit pack pair patch post pull push run shot show spot start stay stroke sweep swing
touch turn body_covering reaction reflex butterfly_effect pulse rush tide factor alternative
choice option first second third fourth double single triple special regular original classic
contemporary general ideal antique modern novelty gift present favor favour keepsake prize
sporting_goods requirement necessity sundries luxury ephemera catch haul product_of_labor outlet
deal batch quantity amount dose module prototype paradigm epitome object_of_attention bitch cock
ass arse asshole bum butt fanny tit titty tits boob boobs knocker knockers prick dick cunt twat
pussy snatch putz pecker shaft crotch shit crap turd dung faeces feces piss urine pee vomit puke
semen cum jizz condom dildo brothel whorehouse bordello cathouse penis vagina vulva clitoris
scrotum testicle testis anus rectum bollock ball balls nut nuts gonad faggot fairy booby gin
nipple prepuce foreskin perineum pudendum genitalia genitals areola bosom electrode_potential
crack dope weed pot grass smack snow coke speed ice crystal horse opium hashish marijuana
marihuana ganja cannabis suicide_bomb gas_chamber gas_oven gallows electric_chair hot_seat noose
garrote guillotine rack torture_chamber death_house death_cell death_chamber
concentration_camp_site
""".split()  # noqa: SIM905 - a list of words reads best as words

# Taken by the rules, but abstract, archaic, ambiguous, inner anatomy or chemistry.
UNWANTED = """
academic_gown accessory addition aggregate air_conditioning alarm amen_corner angiogram
angiotensin anode antiaircraft antifungal antifungal_agent applicator apparatus archive armament
atomic_weapon attire automatic axis_of_rotation backspace ballast_resistor bars base_of_operations
batten bier big_hand biological_weapon bioweapon bitt blue bolometer bones bouncing_betty boards
brad break_seal breakable brush building_supply_house bus_line butt_end butt_joint calk caparison
capacitor cathode central central_processing_unit character_printer chains chair_of_state
chemical_weapon chevaux-de-frise chinning_bar choke city_university clarion cleat clench clip-on
closed-circuit_television closed_loop club_head cluster_bomb clinker colors collider
color_television commercial_art commissary commodity_exchange communication_system commuter
compact component compound_lens compound_lever compress computer_hardware computer_memory
computer_storage computer_system concentration_camp conducting_wire conference_house
congress_gaiter consignment constituent contraband contraceptive contraceptive_device
contraceptive_pill contraption control_system convertible coop cope coupling
correctional_institution corrective court_of_justice cover cozy crosse crown_jewels cusp
custom-made cutout cyclotron damper data_track dead_room defense_laboratory defense_system
depicted_object depository derby detonating_fuse detector dial diathermy_machine digs diode
direction_finder directional_antenna disinfectant disposable disposal_plant dive duplex duplicate
duplication duplicator edging effigy elastic electric electrical_contact electrical_converter
electrical_device electrical_system electro-acoustic_transducer electromagnet
electrostatic_generator elevated emplacement empty entanglement entrant epicyclic_gear
epicyclic_train equatorial etcetera evaporative_cooler export facing facsimile fail-safe fake
fallout_shelter feed_bunk field_magnet file_server filter finger_hole finishing_coat fipple
fire_iron firing_range flagellum flat_bench flat_coat flats floppy flue_pipe fluorescent follow-up
footage fore fore_edge forte-piano forty-five foundation_garment four-wheel_drive
fragmentation_bomb free-reed free-reed_instrument freight friction_clutch friction_match frontal
fulcrum full_skirt fungicide funny_house funny_wagon fuse galvanic_cell gas-discharge_tube gauge
gearing ginmill glyptic_art goad grab grave graven_image gray grotesque gunlock gunpoint
haberdashery_store half_hitch hand-held_computer handspike harem havelock haven
healthcare_facility heat_engine heat_sink heaver highway_system holding_device homing_device
horizontal_surface horror house_of_prostitution hydraulic_press hydrogen_bomb ignition_interlock
image_orthicon impact_printer import improvisation incendiary_bomb induction_coil infield
information_system infrared_lamp innovation input_device instrument_of_execution
instrument_of_punishment instrument_of_torture interchange interface interlayer interlock
intrauterine_device intrenchment ionization_chamber irons john kamikaze knockabout labor_camp
laser-guided_bomb leading left_field leftfield lens_implant lens_system lense lever light_arm
limited limber line_of_merchandise lining links load loading local local_area_network lockup
lodging lodgings long_iron lotion lower machine_tool major_suit manta map_projection marriage_bed
marshalling_yard mass_rapid_transit mat materiel matting mechanical_system megaton_bomb membrane
memory_device mend mending mental_institution mercantile_establishment metal_wood metallic milling
minor_suit modeling modernism mongrel motif multichannel_recorder munition n-type_semiconductor
nautilus naval_radar naval_weaponry navigational_system neutron_bomb nonvolatile_storage nude
nuclear_weapon obstacle obstruction offstage omnidirectional_antenna one_shot oral_contraceptive
oral_contraceptive_pill organ_stop oscillator outboard output_device overall overlapping overlay
overload p-n_junction p-type_semiconductor package packing pale panic_button paramagnet
passive_matrix_display penal_colony penal_institution percussive_instrument perforation
period_piece peripheral peripheral_device phone_line photographic_emulsion physical_pendulum
pickup piece_de_resistance piece_of_material piece_of_work piezoelectric_crystal place_of_business
ply poker portable precious_stone pressure_dome primary_cell primary_coil proving_ground pry
public_transit public_works pulse_generator push_button quarters radial random-access_memory
random_access_memory random_memory rapid_transit read-only_memory ready-made ready-to-wear
receiving_system reciprocating_engine recorder recording rectifier refractory regalia
religious_residence remote repertory reset resistance_thermometer resistor resonating_chamber
resonator reversible rightfield rings rolling_stock rooms rotary rotating_mechanism rotating_shaft
rotor royal royal_brace royal_mast sampler sampling_station sanctuary sawdust_saloon scanty
schematic school_system screw_thread seal sectional securities_market self-propelled_vehicle
semiautomatic seizing semiconductor_device set_decoration settle setup sewage_system
sheltered_workshop shipboard_system shipment shook short short_circuit short_line sights
simple_machine slick slide_action slip_of_paper slit slug small-arm small_stuff smart_bomb
smoother snap_brim snug software_product sounding_line source_of_illumination spare spare_part
spark spectator_pump splice splicing standby standing_room starter stays steeper stock_exchange
stock_market stocks storage_area storage_device storage_space strapless street_clothes
structural_member subject subsection subway_system suction_pump superstructure supplement
supporting_structure surface-to-air_missile air-to-air_missile air-to-surface_missile sweat_bag
synchronous_motor tack_hammer tails taxi_strip technical telecommunication_system telephone_system
television_system terminal testing_room thermionic_tube thermionic_vacuum_tube thwart throttle
throttle_valve tidy tie tie-in time-delay_measuring_system time_machine tine torpedo_boat total
tourist_court training_ship transdermal_patch transducer transit transit_line transmission_line
transmission_system transportation transportation_system trapping traverse trump trumps turtle
two-handed_saw type_slug ultracentrifuge ultraviolet_lamp undercoat upper upper_surface upright
upstage upstairs vasoconstrictor ventilating_system vertical_section vertical_surface
vibrating_reed virginal virtual_memory voltaic_battery voltaic_cell voltaic_pile voodoo warmer
water-base_paint waterproof way_out ways weapon_system weapons_carrier weapons_system weeds
white_goods wide_screen winding-clothes wing_tip work_in_progress working workpiece wrap yawl zero
plant drygoods twenty-two_rifle tv_room hurricane_deck bathe doubles half_gainer no-hit_game
night_game one-step plunge singles floating hoops swim choreography thoroughbred_racing
professional_baseball scottish_reel ceremonial_dance air_bladder amnion blastula bottom-dweller
broody_hen cannon_bone charger chlorophyll chlorophyll_a chordate chorion chub commensal diapsid
diploid down draft_animal dun entire ephemeral feeder fertilized_egg fissiped fissiped_mammal
germ_layer giant haploid hind host human human_beings human_race humankind hominid
indirect_transmission intermediate_host large_white small_white mankind mesoderm modern_man mount
mouthpart native_cat neural_tube nonpasserine_bird notochord odd-toed_ungulate operculum parasite
placental polyploid pseudopod purebred recombinant scapular slave-making_ant spawn stifle stray
thick_skin underpart whiteface worker worker_bee yolk_sac medusoid buckskin warble jaeger
guard_hair bronc central_chimpanzee achromatic_color achromatic_colour chromatic_color
chromatic_colour bleach blackness blueness brownness coloration complementary complementary_color
greenishness grayness greyness hoariness inkiness orangeness pinkness purpleness sanguine
spectral_color spectral_colour viridity whiteness yellowness fawn tattletale_gray tattletale_grey
dapple-gray dapple-grey dappled-gray dappled-grey fuschia allele anastomosis animal_tissue
anterior antiserum aqueous_humor arterial_blood atrium behind bile bile_duct blood_group
blood_plasma blood_serum blood_stream bodily_fluid bodily_structure body_fluid cecum cell_membrane
cerebrospinal_fluid cervix chromosome ciliary_body circulatory_system colon come corpus_callosum
cortical_area costa craniometric_point cytoplasm dendrite duct duodenum dura_mater epiphysis
erythrocyte fibrous_tissue frontal_lobe gamete genital_organ graft groin gut hard_palate hilum
hooks ileum immune_system imperial jejunum left_ventricle lobule loins lymph lymph_vessel
lymphatic_vessel macrophage menstrual_flow meninges motor_fiber mucosa mucous_membrane
myelin_sheath myocardium myofibrilla nasal_cavity nerve_ending nerve_fiber neutrophil
occipital_lobe optic oral_cavity orifice ovum parenchyma pathway pearly permanent phagocyte plasma
pleura plexus posterior protoplasm quick receptor recessive reproductive_cell reproductive_organ
right_atrium right_ventricle semipermeable_membrane sense_organ sensory_fiber septum serum
sex_chromosome sex_organ short_bone shunt sigmoid_colon sinus small socket sperm suture
sympathetic_nervous_system temporal_lobe transplant tubule tunic ureter urethra uterine_cervix
uterus valve vas vas_deferens venous_blood ventricle vesicle viscera leukocyte lid naked_eye
abdominal_cavity alimentary_canal alimentary_tract urinary_tract central_nervous_system
gastrointestinal_tract bland_diet breakfast_food chew chilly cling coffee_break coffee_substitute
cola_extract combination_salad concoction conserve crape creep_feed crisp cuisine diet dietary
dietary_supplement draught eats flat_bone food_product gastronomy hake halal lobscuse malted mix
monosodium_glutamate organs perishable petit_dejeuner porcupines premix ration solid_food
square_meal swallow takeout treat tuck vegetarianism whiskey_neat burgoo slop grub refreshment
common common_land commons dig land_site parcel_of_land piece_of_ground piece_of_land
populated_area premises rough sprawl tee subdivision adjunct ascent binary biological_agent
black_body blue_air calculus climb depression dipole discard downhill fallow fixed_star
geological_formation heterocyclic_ring high_sea inclusion_body infectious_agent infective_agent
international_waters interplanetary_medium long_chain magnetic_dipole main maria mere must narrow
natural_covering natural_elevation natural_order necessary need nonessential oil-water_interface
open_chain outpouring photosphere radio_source requisite scraping seven_seas skim spit steep
stretch territorial_waters transducing_vector transmission_mechanism troposphere unit_cell
vagabond variable wallow water_table terra_firma grinding pruning micrometeorite multiple_star
holystone atmospheric_condition elements greenhouse_effect inversion weather_condition bolt
sprinkle good_weather annual anther apothecium archegonium ascocarp ascospore ascus basidium
biennial candida canna cheat climber cod conidiophore daughter_cell embryo endospore erica
everlasting gametoecium gametophore gametophyte glad gleba harvest hymenium involucre megaspore
micropyle microspore mother_cell multiple_fruit nutlet parasite_yew pia plant_cell poke
pseudophloem rape red_fox reproductive_structure resting_spore rhizoctinia rhizoid saprophyte
samba sang scape simple simple_leaf slime_mold spore_sac sporangium sporophore sporophyll
sporophyte tree_of_knowledge tuna twice-pinnate volva weld aquatic calabar_bean clocks awn
pore_fungus rock_plant cell_wall vascular_bundle xylem phloem xerophyte xerophytic_plant trumpets
true_slime_mold velum angular_shape asymptote center_line constriction enclosed_space excrescence
facet_plane foursquare intrados jog join jut lifeline outer_boundary perversion picture_plane
saucer scotch tree_diagram tangent tear node air_mass low quiet absorbent absorbent_material
absorber acid-base_indicator adsorbent alizarin_crimson bilirubin bastnasite bromophenol_blue
builder carnallite chad concentrate conglomerate corpuscle daub detergent_builder effluent
excrement excreta excretory_product exudation fecal_matter fell fibril filament filler flimsy
fluorescein droppings fluorescent_dye gum_arabic heme hemosiderin homogenate human_waste hyaline
impregnation impurity insulator melanin mordant niobite pit_run plant_hormone pollutant precursor
pyrophoric_alloy radioactive_material radioactive_waste radiopaque_dye retinal semiconductor
sizing slack sodium_tripolyphosphate spar spinel stick_lac stiffener tetrasodium_pyrophosphate
thickener thus till tincture trisodium_orthophosphate wafer waste_matter waste_product xenotime
zinc_blende hyacinth particle lighter alizarine_red azo_dye basic_dye acid_dye corpse dead_body
buttocks menstrual penal graven amphibole_group combustible_material
""".split()  # noqa: SIM905

# Seen often, tagged or defined under kinds that are not taken.
OWN_WORDS = """
person man woman child boy girl baby toddler infant teenager crowd couple family audience team
face portrait smile hand hands eyes hair beard moustache mustache bald head tattoo freckles
wrinkles profile athlete baker ballerina barber bride bridegroom groom butcher carpenter
cheerleader chef clown cook cowboy cyclist dancer dentist diver doctor drummer farmer firefighter
fireman fisherman gardener guitarist gymnast hiker hunter jockey king knight lifeguard magician
mechanic miner monk motorcyclist musician nun nurse painter pedestrian pianist pilot pirate
police_officer policeman priest prince princess queen referee rider runner sailor scientist
shepherd singer skateboarder skater skier snowboarder soldier spectator student surfer surgeon
swimmer tailor teacher tourist violinist waiter waitress witch worker astronaut angel demon dragon
fairy_tale ghost mermaid monster robot unicorn zombie skeleton skull herd flock swarm pack_of_dogs
school_of_fish bouquet bunch pile stack row heap cluster parade wedding picnic concert festival
fireworks explosion sunset sunrise dawn dusk twilight night daylight sunlight moonlight shadow
silhouette reflection glare halo rainbow lightning storm blizzard hurricane tornado flood fog mist
haze smoke flame fire bonfire wildfire spark snow rain hail frost ice dew cloud clouds
overcast_sky blue_sky starry_sky autumn winter spring summer autumn_leaves black_and_white sepia
monochrome blurry blurred out_of_focus close-up macro_photograph aerial_view x-ray
microscope_image satellite_image screenshot collage cartoon drawing sketch engraving painting
watercolor watercolour photograph diagram chart graph map text handwriting caption logo label
watermark barcode qr_code letter digit number word banner poster sign billboard headline newspaper
magazine top_view side_view front_view back_view underwater indoors outdoors background foreground
left_half right_half corner border frame dark_background white_background black_background round
square rectangular triangular oval circular curved straight diagonal horizontal vertical parallel
symmetrical radial pointed sharp rounded flat thick thin narrow wide long short tall tiny huge
large small slender curly wavy straight_hair frizzy furry fluffy feathered hairy scaly spiny
thorny slimy bright dark pale vivid colorful colourful pastel transparent translucent opaque
glossy matte matt shiny metallic golden silvery rusty rusted wooden plastic glassy stone leather
woollen woolen knitted woven wet dry dusty muddy sandy rocky grassy leafy snowy icy foggy cloudy
sunny rainy stormy smooth rough bumpy grainy gritty crumpled folded torn cracked broken peeling
worn faded dirty clean striped spotted dotted checked chequered checkered plaid tartan floral
paisley zigzag houndstooth herringbone polka_dot camouflage leopard_print tiger_stripes
zebra_stripes grid mesh lattice honeycomb spiral swirl concentric_circles stripes spots dots
checkerboard chequerboard crosshatching mosaic gradient texture pattern fur feathers scales wool
bark petals leaves branches roots needles shell horns antlers claws beak snout muzzle tail paws
hooves wings fins gills tentacles mane whiskers tusk trunk crest comb udder wheel wheels tyre tire
windscreen windshield headlight bumper bonnet number_plate handlebar saddle window door roof
chimney wall floor ceiling stairs staircase balcony fence gate pillar arch dome kitchen bathroom
bedroom living_room dining_room office classroom corridor hallway garage basement attic
supermarket shop restaurant cafe bar_counter library museum church temple mosque castle hospital
school airport runway railway_station train_station bus_stop harbour harbor marina car_park
parking_lot motorway highway street alley pavement sidewalk crosswalk zebra_crossing bridge tunnel
playground stadium swimming_pool beach coast cliff cave waterfall river stream lake pond sea ocean
island mountain valley hill canyon desert dune forest jungle rainforest swamp meadow field farm
orchard vineyard garden park traffic_light traffic_cone fire_truck school_bus double-decker_bus
pickup_truck minivan motorhome delivery_van coffee_mug teddy_bear paper_towel toilet_paper
soap_dispenser shampoo_bottle water_jug wine_glass baking_tray cutting_board chopsticks spatula
ladle whisk corkscrew rolling_pin microwave toaster kettle coffee_machine fridge freezer
washing_line ironing_board vacuum_flask lunchbox tin_can cereal_bowl birthday_candle gift_wrap
wrapping_paper party_hat balloon confetti christmas_tree pumpkin_lantern snowman snowflake icicle
sandcastle kite swing slide_tower trampoline skateboard snowboard roller_skates wetsuit
life_jacket diving_mask tennis_player baseball_glove basketball_hoop football_pitch running_track
race_track finish_line medal trophy whistle scoreboard shopping_cart shopping_bag price_tag
shop_sign street_sign stop_sign speed_limit_sign road_marking manhole_cover fire_hydrant
parking_meter street_lamp telephone_box park_bench wind_turbine solar_panel power_lines
satellite_dish crane_hook construction_site hard_hat high-visibility_vest safety_goggles
rubber_gloves lab_coat surgical_mask face_paint sunglasses headphones earbuds smartphone laptop
tablet_computer computer_monitor games_console remote_control selfie webcam usb_cable power_socket
light_switch bookshelf office_chair filing_cabinet whiteboard sticky_note paper_clip stapler
scissors ballpoint_pen envelope cardboard_box bubble_wrap plastic_bottle glass_bottle jam_jar
egg_carton milk_carton french_fries hot_dog burger sandwich salad_bowl fried_rice noodles ramen
dumplings spring_roll taco burrito pizza_slice croissant bagel pretzel doughnut cupcake
ice_cream_cone lollipop popcorn cotton_candy candyfloss smoothie latte_art beer_glass cocktail
champagne_flute red_wine fruit_bowl dog_collar dog_lead bird_feeder bird_cage fish_tank aquarium
cat_ears dog_face floppy_ears pointed_ears insect_wings bird_wings webbed_feet bird_feet
animal_eyes compound_eye open_mouth teeth tongue lipstick nail_polish earrings nose_ring necklace
bow_tie hoodie t-shirt tank_top swim_trunks bikini high_heels trainers flip-flops sandals
wellington_boots baseball_cap woolly_hat cowboy_hat crown backpack handbag suitcase umbrella
walking_stick wheelchair pushchair stroller crutches bandage lawn glacier volcano coral_reef
underwater_scene cityscape skyline landscape seascape countryside village
""".split()  # noqa: SIM905


@dataclass(frozen=True)
class Synset:
    """One noun meaning: its kind (lexicographer file), words, and the meanings above it."""

    kind: int
    words: tuple[str, ...]
    above: tuple[str, ...]
    is_instance: bool


def read_nouns(folder: Path) -> dict[str, Synset]:
    """All noun synsets by offset."""
    synsets = {}
    for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split(" | ")[0].split()
        n_words = int(fields[3], 16)
        words = tuple(fields[4 + 2 * i] for i in range(n_words))
        at = 4 + 2 * n_words
        pointers = [fields[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(fields[at]))]
        above = tuple(p[1] for p in pointers if p[0] in ("@", "@i"))
        synsets[fields[0]] = Synset(
            int(fields[1]), words, above, any(p[0] == "@i" for p in pointers)
        )
    return synsets


def read_senses(folder: Path) -> dict[str, list[str]]:
    """The synsets of each lower-case noun, most usual first."""
    senses = {}
    for line in (folder / "index.noun").read_text(encoding="utf-8").splitlines():
        if not line.startswith("  "):
            fields = line.split()
            senses[fields[0]] = fields[-int(fields[2]) :]
    return senses


def read_tag_counts(folder: Path) -> tuple[dict[tuple[str, int], int], Counter[str]]:
    """How often each noun sense (word, number) was tagged in WordNet's corpora, and other words."""
    counts: dict[tuple[str, int], int] = {}
    others: Counter[str] = Counter()
    for line in (folder / "cntlist.rev").read_text(encoding="utf-8").splitlines():
        key, sense, count = line.split()
        word, _, rest = key.partition("%")
        if rest.startswith("1:"):
            counts[word, int(sense)] = int(count)
        else:
            others[word] += int(count)
    return counts, others


def read_place_adjectives(folder: Path, synsets: dict[str, Synset]) -> set[str]:
    """Adjectives such as 'French' that pertain to a place (lexicographer file 15)."""
    adjectives = set()
    for line in (folder / "data.adj").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split(" | ")[0].split()
        n_words = int(fields[3], 16)
        at = 4 + 2 * n_words
        pointers = [fields[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(fields[at]))]
        if any(p[0] == "\\" and p[2] == "n" and synsets[p[1]].kind == 15 for p in pointers):
            adjectives |= {fields[4 + 2 * i] for i in range(n_words)}
    return {word for word in adjectives if word[:1].isupper()}


def count_in_glosses(folder: Path, wanted: set[str]) -> Counter[str]:
    """How often each word or phrase (plain plurals too) stands in definitions and examples."""
    counts: Counter[str] = Counter()
    for name in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{name}").read_text(encoding="utf-8").splitlines():
            if line.startswith("  ") or " | " not in line:
                continue
            words = re.findall(r"[a-z0-9'-]+", line.split(" | ", 1)[1].lower())
            for n in (1, 2, 3):
                for i in range(len(words) - n + 1):
                    phrase = "_".join(words[i : i + n])
                    for form in (phrase, phrase.removesuffix("s"), phrase.removesuffix("es")):
                        if form in wanted:
                            counts[form] += 1
                            break
    return counts


def _score(tags: int, gloss: int) -> float:
    return math.log1p(tags) + math.log1p(gloss)


def select(folder: Path) -> dict[str, str]:
    """The chosen words, and the synset that each stands for."""
    synsets, senses = read_nouns(folder), read_senses(folder)
    tags, _ = read_tag_counts(folder)
    places = read_place_adjectives(folder, synsets)
    below: dict[str, set[str]] = defaultdict(set)
    for offset, synset in synsets.items():
        for above in synset.above:
            below[above].add(offset)

    def subtree(word: str, sense: int) -> set[str]:
        if word not in senses or len(senses[word]) < sense:
            return set()
        found, todo = set(), [senses[word][sense - 1]]
        while todo:
            offset = todo.pop()
            if offset not in found:
                found.add(offset)
                todo += below[offset]
        return found

    excluded = set().union(*(subtree(*root) for root in EXCLUDED_SUBTREES))
    least = {o: LEAST_SCORE[s.kind] for o, s in synsets.items() if s.kind in LEAST_SCORE}
    for root, score in SUBTREES.items():
        for offset in subtree(*root):
            least[offset] = min(score, least.get(offset, 99))
    gloss = count_in_glosses(folder, {w.lower() for s in synsets.values() for w in s.words})
    generic = {*GENERIC, *UNWANTED}
    chosen: dict[str, str] = {}
    for offset in sorted(least):
        synset = synsets[offset]
        if offset in excluded or synset.is_instance:
            continue
        for word in synset.words:
            lower = word.lower()
            if lower in generic or not _is_plain(word, places):
                continue
            order = senses[lower].index(offset) + 1
            n_tags = tags.get((lower, order), 0)
            n_first = tags.get((lower, 1), 0)
            if order > 1 and not (n_tags >= 3 and n_tags >= 0.4 * n_first):
                continue
            # A phrase is rarely in a definition but says exactly what it means.
            bonus = 0.55 if "_" in word or "-" in word else 0.0
            n_gloss = gloss[lower] - 1 if order == 1 else 0
            score = _score(n_tags, max(0, n_gloss)) + bonus
            if score >= least[offset]:
                chosen.setdefault(lower, offset)
    return chosen


def _is_plain(word: str, places: set[str]) -> bool:
    parts = word.split("_")
    if len(parts) > 3 or len(word) < 3 or re.search(r"[\d.'/]", word):
        return False
    capitals = [part for part in parts if part != part.lower()]
    return not capitals or (
        len(parts) > 1 and set(capitals) <= places and parts[-1] not in capitals
    )


def own_synsets(folder: Path) -> dict[str, str]:
    """The synset of each word of our own that is a noun first of all."""
    senses, (tags, others) = read_senses(folder), read_tag_counts(folder)
    adjectives = {
        line.split()[0]
        for line in (folder / "index.adj").read_text(encoding="utf-8").splitlines()
        if not line.startswith("  ")
    }
    return {
        word: senses[word][0]
        for word in OWN_WORDS
        if word in senses and (word not in adjectives or tags.get((word, 1), 0) > others[word])
    }


def parents_of(
    synset_of: Mapping[str, str], above: Callable[[str], Sequence[str]]
) -> dict[str, list[str]]:
    """For each word the words of the nearest synsets above its own that have any.

    Args:
        synset_of: the synset of each word.
        above: the synsets right above one.
    """
    words_of: dict[str, list[str]] = defaultdict(list)
    for word, offset in synset_of.items():
        words_of[offset].append(word)
    parents = {}
    for word, offset in synset_of.items():
        found: set[str] = set()
        todo, seen = list(above(offset)), set()
        while todo:
            synset = todo.pop()
            if synset not in seen:
                seen.add(synset)
                found.update(words_of[synset]) if synset in words_of else todo.extend(above(synset))
        parents[word] = sorted(found)
    return parents


def main(folder: Path) -> None:
    """Write ``general.txt``."""
    chosen, synsets = select(folder), read_nouns(folder)
    parents = parents_of({**own_synsets(folder), **chosen}, lambda offset: synsets[offset].above)
    rows = {
        word.replace("_", " "): ";".join(above.replace("_", " ") for above in parents.get(word, ()))
        for word in {*chosen, *OWN_WORDS}
    }
    lines = [f"{word}\t{rows[word]}".rstrip("\t") for word in sorted(rows)]
    TARGET.write_text("\n".join([HEADER + "label\tparents", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/wordnet"))
